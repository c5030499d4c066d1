using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

/// <summary>The exports that count host memory.</summary>
internal static partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_count_host_memory")]
    public static partial int CountHostMemory();

    [LibraryImport(Library, EntryPoint = "moe_counted_host_memory")]
    public static partial int CountedHostMemory(out long bytes, out long most);

    [LibraryImport(Library, EntryPoint = "moe_stop_counting_host_memory")]
    public static partial int StopCountingHostMemory();
}

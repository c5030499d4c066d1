using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_grouped_matmul")]
    public static partial int GroupedMatMul(nint left, nint right, nint offsets, out nint result);
}

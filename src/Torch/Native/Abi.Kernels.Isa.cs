using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

internal static partial class Abi
{
    /// <summary>For tests: 0 to have kernels take no more than the baseline's instructions, 1 AVX2's, 2 AVX-512's.</summary>
    [LibraryImport(Library, EntryPoint = "moe_limit_isa")]
    public static partial int LimitIsa(int highest, out int used);
}

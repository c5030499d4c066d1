using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

/// <summary>The exports of native/kernels/linear_cross_entropy.cpp.</summary>
internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_linear_cross_entropy")]
    public static partial int LinearCrossEntropy(
        nint hidden, nint head, nint targets, long chunkBytes, nint loss, nint hiddenGradient, nint headGradient);

    [LibraryImport(Library, EntryPoint = "moe_scale")]
    public static partial int Scale(nint from, nint factor, nint to);
}

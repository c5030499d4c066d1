using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

/// <summary>The exports of native/kernels/attention.cpp.</summary>
internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_attention_forward")]
    public static partial int AttentionForward(
        nint projection, nint cosine, nint sine, long heads, long keyValueHeads, long length, nint output, nint logSums);

    [LibraryImport(Library, EntryPoint = "moe_attention_backward")]
    public static partial int AttentionBackward(
        nint projection,
        nint cosine,
        nint sine,
        long heads,
        long keyValueHeads,
        long length,
        nint output,
        nint logSums,
        nint outputGradient,
        nint projectionGradient);
}

using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

/// <summary>The exports of native/kernels/embedding.cpp.</summary>
internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_embedding_backward")]
    public static partial int EmbeddingBackward(nint arriving, nint tokens, nint gradient);
}

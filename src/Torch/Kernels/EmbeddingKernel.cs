using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>The gradient of an embedding's table, each of its rows written once: native/kernels/embedding.cpp.</summary>
/// <remarks>
/// Shapes: T places, V tokens, D width; arriving [T, D], tokens [T] int64. A token's rows are added in the order of its places, in the work type, and rounded
/// once; on a GPU in pieces of 128 where there are more than 32.
/// </remarks>
public static class EmbeddingKernel
{
    /// <summary>The sums of the arriving rows by token: [V, D] in their type, zeros for a token that does not occur.</summary>
    /// <param name="arriving">[T, D], without gaps.</param>
    /// <param name="tokens">[T], 0 to V - 1, without gaps. Another is left out on a GPU, and refused on the host.</param>
    /// <param name="vocabulary">V.</param>
    /// <exception cref="TorchException">Shapes, types, devices or tokens don't fit.</exception>
    public static Tensor Backward(Tensor arriving, Tensor tokens, long vocabulary)
    {
        var gradient = arriving.NewEmpty([vocabulary, arriving.Size(-1)]);
        Operator.CountCall();
        Abi.Check(Abi.EmbeddingBackward(arriving.LiveHandle, tokens.LiveHandle, gradient.LiveHandle));
        return gradient;
    }
}

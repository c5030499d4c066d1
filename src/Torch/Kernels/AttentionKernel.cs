using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>Causal attention in blocks on the fused projection, rotary embedding inside, in host memory: native/kernels/attention.cpp.</summary>
/// <remarks>
/// Shapes: projection [B S, (H + 2K) h]: queries, keys, values; output [B S, H h]; log-sums [B, H, S]; cosine and sine
/// [positions, h / 2]. The last three are of the work type. All without gaps.
/// </remarks>
public static class AttentionKernel
{
    /// <summary>The output, and the logarithm of the sum of the exponentials of each query's scores, which backward needs.</summary>
    /// <param name="projection">[B S, (H + 2K) h], in host memory.</param>
    /// <param name="cosine">At least S positions.</param>
    /// <param name="sine">As the cosines.</param>
    /// <param name="heads">H.</param>
    /// <param name="keyValueHeads">K; divides H.</param>
    /// <param name="length">S.</param>
    /// <exception cref="TorchException">Shapes, types or devices don't fit.</exception>
    public static (Tensor Output, Tensor LogSums) Forward(Tensor projection, Tensor cosine, Tensor sine, int heads, int keyValueHeads, int length)
    {
        var output = projection.NewEmpty([projection.Size(0), 2 * heads * cosine.Size(1)]);
        var logSums = projection.NewEmpty([projection.Size(0) / length, heads, length], projection.DType.Work());
        Operator.CountCall();
        Abi.Check(Abi.AttentionForward(
            projection.LiveHandle, cosine.LiveHandle, sine.LiveHandle, heads, keyValueHeads, length, output.LiveHandle, logSums.LiveHandle));
        return (output, logSums);
    }

    /// <summary>The projection's gradient.</summary>
    /// <param name="projection">As in forward, like all up to <paramref name="length"/>.</param>
    /// <param name="cosine">As in forward.</param>
    /// <param name="sine">As in forward.</param>
    /// <param name="heads">As in forward.</param>
    /// <param name="keyValueHeads">As in forward.</param>
    /// <param name="length">As in forward.</param>
    /// <param name="output">From forward.</param>
    /// <param name="logSums">From forward.</param>
    /// <param name="arriving">The output's gradient.</param>
    /// <exception cref="TorchException">Shapes, types or devices don't fit.</exception>
    public static Tensor Backward(
        Tensor projection, Tensor cosine, Tensor sine, int heads, int keyValueHeads, int length, Tensor output, Tensor logSums, Tensor arriving)
    {
        var gradient = projection.NewEmpty(projection.Shape);
        Operator.CountCall();
        Abi.Check(Abi.AttentionBackward(
            projection.LiveHandle,
            cosine.LiveHandle,
            sine.LiveHandle,
            heads,
            keyValueHeads,
            length,
            output.LiveHandle,
            logSums.LiveHandle,
            arriving.LiveHandle,
            gradient.LiveHandle));
        return gradient;
    }
}

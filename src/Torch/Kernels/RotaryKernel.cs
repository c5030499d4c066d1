using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>From the fused projection to heads, queries and keys turned by their positions' angles, and back: native/kernels/rotary.cpp.</summary>
/// <remarks>
/// Shapes: projection [B S, (H + 2K) h]: queries, keys, values; query [B, S, H, h]; key and value [B, S, K, h]; cosine and sine
/// [positions, h / 2] of the work type. All without gaps.
/// </remarks>
public static class RotaryKernel
{
    /// <summary>Heads of the projection.</summary>
    /// <param name="projection">[B S, (H + 2K) h].</param>
    /// <param name="cosine">At least S positions.</param>
    /// <param name="sine">As the cosines.</param>
    /// <param name="heads">H.</param>
    /// <param name="keyValueHeads">K.</param>
    /// <param name="length">S.</param>
    /// <exception cref="TorchException">Shapes, types or devices don't fit.</exception>
    public static (Tensor Query, Tensor Key, Tensor Value) Forward(
        Tensor projection, Tensor cosine, Tensor sine, int heads, int keyValueHeads, int length)
    {
        var (sequences, width) = (projection.Size(0) / length, 2 * cosine.Size(1));
        var query = projection.NewEmpty([sequences, length, heads, width]);
        long[] shared = [sequences, length, keyValueHeads, width];
        var (key, value) = (projection.NewEmpty(shared), projection.NewEmpty(shared));
        Operator.CountCall();
        Abi.Check(Abi.RotaryForward(
            projection.LiveHandle, cosine.LiveHandle, sine.LiveHandle, query.LiveHandle, key.LiveHandle, value.LiveHandle));
        return (query, key, value);
    }

    /// <summary>The projection's gradient from those of its heads.</summary>
    /// <exception cref="TorchException">Shapes, types or devices don't fit.</exception>
    public static Tensor Backward(Tensor query, Tensor key, Tensor value, Tensor cosine, Tensor sine)
    {
        var projection = query.NewEmpty([query.Size(0) * query.Size(1), (query.Size(2) + 2 * key.Size(2)) * query.Size(3)]);
        Operator.CountCall();
        Abi.Check(Abi.RotaryBackward(
            query.LiveHandle, key.LiveHandle, value.LiveHandle, cosine.LiveHandle, sine.LiveHandle, projection.LiveHandle));
        return projection;
    }
}

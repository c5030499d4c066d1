using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>A product of bfloat16 rows with a float32 weight in float32 accuracy, by products of bfloat16 factors: native/kernels/split.cpp.</summary>
/// <remarks>Shapes: x [T, D] bfloat16, weight [E, D] and logits [T, E] float32. All without gaps.</remarks>
public static class RouterProductKernel
{
    private static readonly Lazy<bool> Exists = new(() =>
    {
        Abi.Check(Abi.HasWideProduct(out var has));
        return has != 0;
    });

    /// <summary>Whether it is faster than a float32 product: on a GPU, where libtorch multiplies bfloat16 factors into a float32 result (2.8 and later).</summary>
    /// <param name="x">The rows.</param>
    /// <param name="weight">The weight.</param>
    public static bool Fits(Tensor x, Tensor weight) =>
        x.Device.IsCuda && x.DType == DType.BFloat16 && weight.DType == DType.Float32 && Exists.Value;

    /// <summary>x weight^T, [T, E] in float32.</summary>
    /// <param name="x">[T, D].</param>
    /// <param name="weight">[E, D].</param>
    /// <exception cref="TorchException">Shapes, types or devices don't fit.</exception>
    public static Tensor Forward(Tensor x, Tensor weight)
    {
        var logits = x.NewEmpty([x.Size(0), weight.Size(0)], DType.Float32);
        Operator.CountCall();
        Abi.Check(Abi.RouterProductForward(x.LiveHandle, weight.LiveHandle, logits.LiveHandle));
        return logits;
    }

    /// <summary>The gradients of x, in bfloat16, and of the weight, in float32; null where not asked for.</summary>
    /// <param name="x">[T, D].</param>
    /// <param name="weight">[E, D].</param>
    /// <param name="arriving">[T, E] float32.</param>
    /// <param name="ofInput">Whether that of x is asked for.</param>
    /// <param name="ofWeight">Whether the weight's is.</param>
    /// <exception cref="TorchException">Shapes, types or devices don't fit.</exception>
    public static (Tensor? Input, Tensor? Weight) Backward(Tensor x, Tensor weight, Tensor arriving, bool ofInput, bool ofWeight)
    {
        var (input, weights) = (ofInput ? x.NewEmpty(x.Shape) : null, ofWeight ? weight.NewEmpty(weight.Shape) : null);
        Operator.CountCall();
        Abi.Check(Abi.RouterProductBackward(x.LiveHandle, weight.LiveHandle, arriving.LiveHandle, input?.LiveHandle ?? 0, weights?.LiveHandle ?? 0));
        return (input, weights);
    }
}

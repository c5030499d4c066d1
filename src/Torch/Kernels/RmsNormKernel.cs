using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>Rows brought to a root mean square of 1 and scaled by column, forward and backward, in one call each: native/kernels/rms_norm.cpp.</summary>
/// <remarks>Shapes: rows [..., D] of R rows, without gaps; weight [D] of the work type of the rows.</remarks>
public static class RmsNormKernel
{
    /// <summary>x / sqrt(mean(x^2) + epsilon) * weight, and the inverse root of each row, which backward needs: [R] of the work type.</summary>
    /// <exception cref="TorchException">Shapes, types or devices don't fit.</exception>
    public static (Tensor Normed, Tensor Inverse) Forward(Tensor x, Tensor weight, double epsilon)
    {
        var (normed, inverse) = (x.NewEmpty(x.Shape), Inverses(x));
        Operator.CountCall();
        Abi.Check(Abi.RmsNormForward(x.LiveHandle, 0, weight.LiveHandle, epsilon, 0, normed.LiveHandle, inverse.LiveHandle));
        return (normed, inverse);
    }

    /// <summary>The same of x + change, with that sum.</summary>
    /// <exception cref="TorchException">Shapes, types or devices don't fit.</exception>
    public static (Tensor Sum, Tensor Normed, Tensor Inverse) Forward(Tensor x, Tensor change, Tensor weight, double epsilon)
    {
        var (sum, normed, inverse) = (x.NewEmpty(x.Shape), x.NewEmpty(x.Shape), Inverses(x));
        Operator.CountCall();
        Abi.Check(Abi.RmsNormForward(
            x.LiveHandle, change.LiveHandle, weight.LiveHandle, epsilon, sum.LiveHandle, normed.LiveHandle, inverse.LiveHandle));
        return (sum, normed, inverse);
    }

    /// <summary>Gradients from that of the normed rows.</summary>
    /// <param name="arriving">As the rows.</param>
    /// <param name="beside">As the rows: added to their gradient; null for nothing.</param>
    /// <param name="x">What was normed.</param>
    /// <param name="weight">As in forward.</param>
    /// <param name="inverse">From forward.</param>
    /// <param name="ofRows">Whether the rows' gradient is asked for.</param>
    /// <param name="ofWeight">Whether the weight's is: it is of the work type.</param>
    /// <exception cref="TorchException">Shapes, types or devices don't fit.</exception>
    public static (Tensor? Rows, Tensor? Weight) Backward(
        Tensor arriving, Tensor? beside, Tensor x, Tensor weight, Tensor inverse, bool ofRows, bool ofWeight)
    {
        var (rows, scale) = (ofRows ? x.NewEmpty(x.Shape) : null, ofWeight ? weight.NewEmpty(weight.Shape) : null);
        Operator.CountCall();
        Abi.Check(Abi.RmsNormBackward(
            arriving.LiveHandle,
            beside?.LiveHandle ?? 0,
            x.LiveHandle,
            weight.LiveHandle,
            inverse.LiveHandle,
            rows?.LiveHandle ?? 0,
            scale?.LiveHandle ?? 0));
        return (rows, scale);
    }

    private static Tensor Inverses(Tensor x) => x.NewEmpty([x.Size(-1) == 0 ? 0 : x.Count / x.Size(-1)], x.DType.Work());
}

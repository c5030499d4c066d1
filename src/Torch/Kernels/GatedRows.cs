using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>silu(gate) * up * w by rows, and its gradient, each in one pass over the memory.</summary>
/// <remarks>
/// Shapes: h [R, 2F] has the gate in its first F columns and up in the others; the weights w are [R], float32 (float64 beside float64 rows);
/// the activation is [R, F]. All are contiguous. bfloat16 is worked in float32 and rounded once.
/// </remarks>
public static class GatedRows
{
    /// <summary>The activation [R, F], of the type of <paramref name="h"/>.</summary>
    /// <param name="h">[R, 2F].</param>
    /// <param name="weights">[R]; left out, 1.</param>
    /// <exception cref="TorchException">A tensor is not as above.</exception>
    public static Tensor Activate(Tensor h, Tensor? weights)
    {
        var activation = h.NewEmpty([h.Size(0), h.Size(1) / 2]);
        Operator.CountCall();
        Abi.Check(Abi.SwiGluForward(h.LiveHandle, weights?.LiveHandle ?? 0, activation.LiveHandle));
        return activation;
    }

    /// <summary>From the activation's gradient: the activation once more, which is cheaper to compute than to keep, and the inputs' gradients.</summary>
    /// <param name="h">[R, 2F].</param>
    /// <param name="weights">[R]; left out, 1.</param>
    /// <param name="activationGradient">[R, F].</param>
    /// <returns>Activation [R, F], gradient of h [R, 2F], gradient of the weights [R]; null where there are none.</returns>
    /// <exception cref="TorchException">A tensor is not as above.</exception>
    public static (Tensor Activation, Tensor Gradient, Tensor? WeightGradient) Backward(Tensor h, Tensor? weights, Tensor activationGradient)
    {
        var activation = h.NewEmpty(activationGradient.Shape);
        var gradient = h.NewEmpty(h.Shape);
        var weightGradient = weights?.NewEmpty(weights.Shape);
        Operator.CountCall();
        Abi.Check(Abi.SwiGluBackward(
            h.LiveHandle,
            weights?.LiveHandle ?? 0,
            activationGradient.LiveHandle,
            activation.LiveHandle,
            gradient.LiveHandle,
            weightGradient?.LiveHandle ?? 0));
        return (activation, gradient, weightGradient);
    }
}

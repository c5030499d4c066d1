using System.Numerics;
using Moe.Torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Moe.Models;

/// <summary>silu(gate) * up: the gated activation of Shazeer 2020, https://arxiv.org/abs/2002.05202, and its gradient.</summary>
/// <remarks>Shapes: the fused projection h [R, 2F] has the gate in its first F columns and up in the others; the activation is [R, F].</remarks>
internal static class SwiGlu
{
    /// <summary>By recorded operators: the oracle of the tests.</summary>
    internal static Tensor Reference(Tensor h)
    {
        var width = h.Size(-1) / 2;
        return h.Narrow(-1, 0, width).Silu() * h.Narrow(-1, width, width);
    }

    /// <summary>The activation [R, F] of h [R, 2F].</summary>
    internal static Tensor Activate(Tensor h)
    {
        var a = Tensor.Empty([h.Size(0), h.Size(1) / 2], h.DType);
        switch (h.DType)
        {
            case DType.Float32:
                ActivateRows<float>(h, a);
                break;
            case DType.Float64:
                ActivateRows<double>(h, a);
                break;
            default:
                a.CopyFrom_(Activate(h.To(DType.Float32)));
                break;
        }

        return a;
    }

    /// <summary>From the activation's gradient [R, F]: the activation once more (cheaper to compute than to keep), and the gradient of h [R, 2F].</summary>
    internal static (Tensor Activation, Tensor Gradient) Backward(Tensor h, Tensor activationGradient)
    {
        if (h.DType == DType.BFloat16)
        {
            var (wide, wideGradient) = Backward(h.To(DType.Float32), activationGradient.To(DType.Float32));
            return (wide.To(h.DType), wideGradient.To(h.DType));
        }

        var a = Tensor.Empty(activationGradient.Shape, h.DType);
        var gradient = Tensor.Empty(h.Shape, h.DType);
        if (h.DType == DType.Float64)
        {
            BackwardRows<double>(h, activationGradient, a, gradient);
        }
        else
        {
            BackwardRows<float>(h, activationGradient, a, gradient);
        }

        return (a, gradient);
    }

    private static void ActivateRows<T>(Tensor h, Tensor activation)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var from = h.Span<T>();
        var to = activation.Span<T>();
        var width = (int)activation.Size(1);
        for (var (input, output) = (0, 0); output < to.Length; input += 2 * width, output += width)
        {
            var gate = from.Slice(input, width);
            var up = from.Slice(input + width, width);
            var a = to.Slice(output, width);
            TensorPrimitives.Sigmoid<T>(gate, a);
            TensorPrimitives.Multiply(a, gate, a);
            TensorPrimitives.Multiply(a, up, a);
        }
    }

    // With s = sigmoid(gate): dup = da * gate * s, dgate = da * up * s * (1 + gate * (1 - s)).
    private static void BackwardRows<T>(Tensor h, Tensor activationGradient, Tensor activation, Tensor gradient)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var from = h.Span<T>();
        var arriving = activationGradient.Span<T>();
        var to = activation.Span<T>();
        var leaving = gradient.Span<T>();
        var width = (int)activation.Size(1);
        var scratch = new T[width];
        for (var (input, output) = (0, 0); output < to.Length; input += 2 * width, output += width)
        {
            var gate = from.Slice(input, width);
            var up = from.Slice(input + width, width);
            var gateGradient = leaving.Slice(input, width);
            var upGradient = leaving.Slice(input + width, width);
            var da = arriving.Slice(output, width);
            var a = to.Slice(output, width);
            TensorPrimitives.Sigmoid<T>(gate, scratch);
            TensorPrimitives.Multiply<T>(gate, scratch, a); // silu
            TensorPrimitives.Multiply<T>(da, a, upGradient);
            TensorPrimitives.Subtract(T.One, scratch, gateGradient);
            TensorPrimitives.MultiplyAdd<T>(gateGradient, a, scratch, gateGradient); // silu's slope: s + silu * (1 - s)
            TensorPrimitives.Multiply<T>(gateGradient, up, gateGradient);
            TensorPrimitives.Multiply<T>(gateGradient, da, gateGradient);
            TensorPrimitives.Multiply<T>(a, up, a);
        }
    }
}

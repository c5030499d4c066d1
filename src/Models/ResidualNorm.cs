using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>A residual sum and its <see cref="RmsNorm"/> in one pass over the rows; in backward the sum's own gradient and the norm's in one.</summary>
/// <remarks>Shapes: x and change [..., D], weight [D]. In bfloat16 the sum is rounded, and what is normed is the rounded sum.</remarks>
public sealed class ResidualNorm : Function
{
    private readonly double _epsilon;
    private Tensor? _sum;
    private Tensor? _weight;
    private Tensor? _inverse; // [rows]: 1 / root mean square
    private DType _weightType;

    private ResidualNorm(double epsilon) => _epsilon = epsilon;

    /// <summary>x + change, and its norm.</summary>
    /// <param name="x">[..., D], without gaps.</param>
    /// <param name="change">As x.</param>
    /// <param name="weight">[D], floating; worked in float32 for bfloat16 rows, else in their type.</param>
    /// <param name="epsilon">Above 0: keeps a row of zeros at zero.</param>
    public static (Tensor Sum, Tensor Normed) Apply(Tensor x, Tensor change, Tensor weight, double epsilon) =>
        new ResidualNorm(epsilon).Apply(x, change, weight) is [var sum, var normed] ? (sum, normed) : throw new InvalidOperationException("two tensors");

    /// <summary>The same by recorded operators: the oracle of the tests.</summary>
    public static (Tensor Sum, Tensor Normed) Reference(Tensor x, Tensor change, Tensor weight, double epsilon)
    {
        var sum = x + change;
        return (sum, RmsNorm.Reference(sum, weight, epsilon));
    }

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        using var scope = new TensorScope();
        _weightType = inputs[2].DType;
        var weight = inputs[2].To(inputs[0].DType.Work());
        var (sum, normed, inverse) = RmsNormKernel.Forward(inputs[0], inputs[1], weight, _epsilon);
        (_sum, _weight, _inverse) = (Save(sum), Save(weight), Save(inverse));
        return [scope.Keep(sum), scope.Keep(normed)];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var ofSum = outputGradients[0]?.Contiguous();
        if (outputGradients[1] is not { } ofNormed)
        {
            return [ofSum, ofSum, null];
        }

        var (rows, weight) = RmsNormKernel.Backward(
            ofNormed.Contiguous(), ofSum, _sum!, _weight!, _inverse!, NeedsGradient(0) || NeedsGradient(1), NeedsGradient(2));
        return [rows, rows, weight?.To(_weightType)];
    }
}

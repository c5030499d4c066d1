using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>Brings each row to a root mean square of 1, then scales its columns: Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467.</summary>
/// <remarks>
/// Shapes: rows x [..., D], weight [D]. Rows in bfloat16 are worked in float32 and rounded once, at the end.
/// Backward needs x and one number a row; it is one pass over x and the arriving gradient.
/// </remarks>
public sealed class RmsNorm : Function
{
    private readonly double _epsilon;
    private Tensor? _x;
    private Tensor? _weight;
    private Tensor? _inverse; // [rows]: 1 / root mean square
    private DType _weightType;

    private RmsNorm(double epsilon) => _epsilon = epsilon;

    /// <summary>x / sqrt(mean(x^2) + epsilon) * weight, in the type of x.</summary>
    /// <param name="x">[..., D], without gaps.</param>
    /// <param name="weight">[D], floating; worked in float32 for bfloat16 rows, else in their type.</param>
    /// <param name="epsilon">Above 0: keeps a row of zeros at zero.</param>
    public static Tensor Apply(Tensor x, Tensor weight, double epsilon) => new RmsNorm(epsilon).Apply(x, weight)[0];

    /// <summary>The same by recorded operators: the oracle of the tests.</summary>
    public static Tensor Reference(Tensor x, Tensor weight, double epsilon)
    {
        var wide = x.To(x.DType.Work());
        return (wide * (wide * wide).Mean(-1, keep: true).Add(epsilon).Rsqrt() * weight.To(wide.DType)).To(x.DType);
    }

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        using var scope = new TensorScope();
        _weightType = inputs[1].DType;
        var weight = inputs[1].To(inputs[0].DType.Work());
        var (normed, inverse) = RmsNormKernel.Forward(inputs[0], weight, _epsilon);
        (_x, _weight, _inverse) = (Save(inputs[0]), Save(weight), Save(inverse));
        return [scope.Keep(normed)];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var (rows, weight) = RmsNormKernel.Backward(
            outputGradients[0]!.Contiguous(), null, _x!, _weight!, _inverse!, NeedsGradient(0), NeedsGradient(1));
        return [rows, weight?.To(_weightType)];
    }
}

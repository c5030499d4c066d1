using System.Numerics;
using Moe.Torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

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

    private RmsNorm(double epsilon) => _epsilon = epsilon;

    /// <summary>x / sqrt(mean(x^2) + epsilon) * weight, in the type of x.</summary>
    /// <param name="x">[..., D], without gaps.</param>
    /// <param name="weight">[D]; float32 for bfloat16 rows, else of their type.</param>
    /// <param name="epsilon">Above 0: keeps a row of zeros at zero.</param>
    public static Tensor Apply(Tensor x, Tensor weight, double epsilon) => new RmsNorm(epsilon).Apply(x, weight)[0];

    /// <summary>The same by recorded operators: the oracle of the tests, and the form for devices without a kernel.</summary>
    public static Tensor Reference(Tensor x, Tensor weight, double epsilon)
    {
        var wide = x.To(weight.DType);
        return (wide * (wide * wide).Mean(-1, keep: true).Add(epsilon).Rsqrt() * weight).To(x.DType);
    }

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        using var scope = new TensorScope();
        _weight = Save(inputs[1]);
        _x = Save(inputs[0]);
        var wide = inputs[0].To(_weight.DType);
        var y = Tensor.Empty(wide.Shape, wide.DType);
        _inverse = Tensor.Empty([wide.Count / wide.Size(-1)], wide.DType);
        if (wide.DType == DType.Float64)
        {
            ForwardRows<double>(wide, y);
        }
        else
        {
            ForwardRows<float>(wide, y);
        }

        _inverse = Save(_inverse);
        return [scope.Keep(y.To(inputs[0].DType))];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var wide = _x!.To(_weight!.DType);
        var gradient = outputGradients[0]!.To(_weight.DType).Contiguous();
        var xGradient = NeedsGradient(0) ? Tensor.Empty(wide.Shape, wide.DType) : null;
        var weightGradient = NeedsGradient(1) ? Tensor.Zeros(_weight.Shape, _weight.DType) : null;
        if (wide.DType == DType.Float64)
        {
            BackwardRows<double>(gradient, wide, xGradient, weightGradient);
        }
        else
        {
            BackwardRows<float>(gradient, wide, xGradient, weightGradient);
        }

        return [xGradient?.To(_x!.DType), weightGradient];
    }

    private void ForwardRows<T>(Tensor x, Tensor y)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var from = x.Span<T>();
        var to = y.Span<T>();
        var weight = _weight!.Span<T>();
        var inverse = _inverse!.Span<T>();
        var (width, epsilon) = (weight.Length, T.CreateTruncating(_epsilon));
        for (var row = 0; row < inverse.Length; row++)
        {
            var input = from.Slice(row * width, width);
            var output = to.Slice(row * width, width);
            inverse[row] = T.One / T.Sqrt(TensorPrimitives.SumOfSquares<T>(input) / T.CreateTruncating(width) + epsilon);
            TensorPrimitives.Multiply(input, inverse[row], output);
            TensorPrimitives.Multiply(output, weight, output);
        }
    }

    // With n = x * inverse and g = gradient * weight: dx = inverse * (g - n * mean(g * n)), dweight = sum over rows of gradient * n.
    private void BackwardRows<T>(Tensor gradient, Tensor x, Tensor? xGradient, Tensor? weightGradient)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        var dy = gradient.Span<T>();
        var from = x.Span<T>();
        var dx = xGradient is null ? [] : xGradient.Span<T>();
        var dweight = weightGradient is null ? [] : weightGradient.Span<T>();
        var weight = _weight!.Span<T>();
        var inverse = _inverse!.Span<T>();
        var width = weight.Length;
        var scratch = new T[width];
        for (var row = 0; row < inverse.Length; row++)
        {
            var place = new Range(row * width, (row + 1) * width);
            var arriving = dy[place];
            var input = from[place];
            var r = inverse[row];
            TensorPrimitives.Multiply(input, r, scratch);
            if (!dweight.IsEmpty)
            {
                TensorPrimitives.MultiplyAdd(arriving, scratch, dweight, dweight);
            }

            if (dx.IsEmpty)
            {
                continue;
            }

            var leaving = dx[place];
            TensorPrimitives.Multiply(arriving, weight, leaving);
            var mean = TensorPrimitives.Dot<T>(leaving, scratch) / T.CreateTruncating(width);
            TensorPrimitives.MultiplyAdd(scratch, -mean, leaving, leaving);
            TensorPrimitives.Multiply(leaving, r, leaving);
        }
    }
}

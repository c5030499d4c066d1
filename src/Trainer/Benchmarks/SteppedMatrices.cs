using Moe.Models;
using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Training.Benchmarks;

/// <summary>Stacked matrices that AdamW steps by their gradients, in one product with these where the device has it, else behind it.</summary>
/// <param name="values">[E, M, N].</param>
/// <param name="state">Type of both means.</param>
internal sealed class SteppedMatrices(Tensor values, DType state) : IGradientTaker
{
    private static readonly double[] Row = [1, 0, 1, 0.9, 0.1, 0.95, 0.05, 1, 1e-8, -1e-6];

    private readonly Tensor _mean = values.NewZeros(values.Shape, state);
    private readonly Tensor _meanSquare = values.NewZeros(values.Shape, state);

    /// <inheritdoc/>
    public StackedUpdate? Update => state == DType.BFloat16 && values.DType == DType.BFloat16
        ? new StackedUpdate(UpdateRule.Adam, [values, _mean, _meanSquare], Table((int)values.Size(0)), SkipsIdle: true)
        : null;

    /// <summary>Who uses it in a function's backward.</summary>
    public MatrixUse Use => new(Sums: null, this);

    /// <summary>What a step reads and writes of values and means.</summary>
    public static double Bytes(double elements, DType values, DType state) => elements * 2 * (values.Size() + (2 * state.Size()));

    /// <summary>The gradient, and the step by it.</summary>
    /// <param name="left">[R, M].</param>
    /// <param name="right">[R, N].</param>
    /// <param name="groups">Of the rows.</param>
    public void Step(Tensor left, Tensor right, RowGroups groups)
    {
        if (Update is not { } update || GroupedProduct.Step(left, right, groups, update) is null)
        {
            Take(GroupedProduct.Matrices(left, right, groups), [groups]);
        }
    }

    /// <inheritdoc/>
    public void Take(Tensor gradient, IReadOnlyList<RowGroups> groups) =>
        MultiTensor.Update(UpdateRule.Adam, Table(1), [values], [gradient], [_mean], [_meanSquare]);

    /// <inheritdoc/>
    public void Updated(Tensor squares)
    {
    }

    private static double[,] Table(int rows)
    {
        var table = new double[rows, Row.Length];
        for (var i = 0; i < table.Length; i++)
        {
            table[i / Row.Length, i % Row.Length] = Row[i % Row.Length];
        }

        return table;
    }
}

using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>One rank's part of a <see cref="DispatchCase"/>, forward and backward, by a dispatcher.</summary>
public sealed class DispatchRun
{
    private readonly DType _rowType;

    private DispatchRun(DType rowType, double[] rows, long[] rowsPerExpert, double[] output, double[] tokenGradient, double[] weightGradient, double[][] matrixGradients)
    {
        _rowType = rowType;
        Rows = rows;
        RowsPerExpert = rowsPerExpert;
        Output = output;
        TokenGradient = tokenGradient;
        WeightGradient = weightGradient;
        MatrixGradients = matrixGradients;
    }

    public double[] Rows { get; }

    public long[] RowsPerExpert { get; }

    public double[] Output { get; }

    public double[] TokenGradient { get; }

    public double[] WeightGradient { get; }

    /// <summary>By local expert.</summary>
    public double[][] MatrixGradients { get; }

    /// <summary>Runs the part. The experts multiply in the type of the weights, so that of rows in bfloat16 only what the dispatcher makes is rounded.</summary>
    public static DispatchRun Of(TokenDispatcher dispatcher, DispatchCase problem, int rank, DType rowType, DType weightType)
    {
        using var scope = new TensorScope();
        PoisonMemory();
        var share = problem.Shares[rank];
        var tokens = Leaf(share.Tokens, problem.Width, rowType);
        var weights = Leaf(share.Weights, problem.Slots, weightType);
        var ids = Tensor.From([.. share.Ids.SelectMany(id => id)], share.Count, problem.Slots).Here();
        Tensor[] matrices = [.. Enumerable.Range(dispatcher.FirstExpert, dispatcher.LocalExperts)
            .Select(e => Leaf(problem.Matrices[e], problem.Width, rowType))];

        var dispatched = dispatcher.Dispatch(tokens, ids, weights);
        var rowsPerExpert = dispatched.Groups.Lengths();
        var results = dispatched.Rows.Split(rowsPerExpert).Zip(matrices, (rows, matrix) => rows.To(weightType).MatMul(matrix.To(weightType))).ToArray();
        var weighted = Shaping.Concatenate(results) * dispatched.RowWeights.Unsqueeze(1);
        var output = dispatcher.Combine(weighted.To(rowType), dispatched);
        Autograd.Backward(output, Values(share.OutputGradient, problem.Width, rowType));
        return new DispatchRun(
            rowType,
            Doubles(dispatched.Rows),
            rowsPerExpert,
            Doubles(output),
            Doubles(tokens.Gradient!),
            Doubles(weights.Gradient!),
            [.. matrices.Select(matrix => Doubles(matrix.Gradient!))]);
    }

    /// <summary>
    /// Compares all that the rank got with the definition; the tolerance is relative to the largest entry, or to 1 where that is smaller. In bfloat16 norms are compared instead, of
    /// ones where these have the larger: a row, a rank's sum, a node's and the token's are rounded one after another, which in single numbers may add up to 2 %.
    /// </summary>
    /// <param name="problem">For a run in bfloat16 with numbers that it holds, <see cref="DispatchCase.InBFloat16"/>.</param>
    /// <param name="dispatcher">Of the run.</param>
    /// <param name="rank">Of the run.</param>
    /// <param name="tolerance">Above 0.</param>
    /// <param name="bySource">Whether an expert's rows stand in the order of their source ranks.</param>
    public void MustMatch(DispatchCase problem, TokenDispatcher dispatcher, int rank, double tolerance, bool bySource = true)
    {
        var (first, count) = (dispatcher.FirstExpert, dispatcher.LocalExperts);
        Action<double[], double[], double, string> compare = _rowType == DType.BFloat16 ? MustBeCloseInNorm : MustBeClose;
        Assert.That(RowsPerExpert, Is.EqualTo(problem.RowsPerExpert(first, count)));
        if (bySource)
        {
            compare(Rows, problem.Rows(first, count), tolerance, "rows");
        }

        compare(Output, problem.Output(rank), tolerance, "output");
        compare(TokenGradient, problem.TokenGradient(rank), tolerance, "gradient of the tokens");
        compare(WeightGradient, problem.WeightGradient(rank), tolerance, "gradient of the weights");
        for (var e = 0; e < count; e++)
        {
            compare(MatrixGradients[e], problem.MatrixGradient(first + e), tolerance, $"gradient of expert {first + e}");
        }
    }

    public static void MustBeClose(double[] actual, double[] expected, double tolerance, string what)
    {
        var scale = expected.Select(Math.Abs).Append(1).Max();
        Assert.That(actual, Is.EqualTo(expected).Within(tolerance * scale), what);
    }

    private static void MustBeCloseInNorm(double[] actual, double[] expected, double tolerance, string what)
    {
        static double Norm(IEnumerable<double> values) => Math.Sqrt(values.Sum(value => value * value));
        Assert.That(actual, Has.Length.EqualTo(expected.Length), what);
        var error = Norm(actual.Zip(expected, (got, wanted) => got - wanted));
        Assert.That(error, Is.AtMost(tolerance * Math.Max(Norm(expected), Math.Sqrt(expected.Length))), what); // also of NaN
    }

    // What is freed here comes back, unset, to those that forget to write all of what they allocate.
    private static void PoisonMemory()
    {
        using var scope = new TensorScope();
        for (var size = 1; size <= 1 << 14; size *= 2)
        {
            Tensor.Full([size], double.NaN, DType.Float64, RandomTensors.Device);
        }
    }

    private static Tensor Leaf(double[][] rows, int width, DType type)
    {
        var leaf = Values(rows, width, type);
        leaf.RequiresGrad = true;
        return leaf;
    }

    private static Tensor Values(double[][] rows, int width, DType type) =>
        Tensor.From([.. rows.SelectMany(row => row)], rows.Length, width).To(type).Clone().Here();

    private static double[] Doubles(Tensor values) => values.Detach().To(DType.Float64).ToArray<double>();
}

namespace Moe.Torch;

/// <summary>Sums, extremes, orders and normalisations along dimensions. Negative dimensions count from the end.</summary>
public static class Reductions
{
    // at::Reduction::Sum
    private const long SumReduction = 2;

    private static readonly Operator SumAll = new("aten::sum");
    private static readonly Operator SumOne = new("aten::sum", "dim_IntList");
    private static readonly Operator MeanAll = new("aten::mean");
    private static readonly Operator MeanOne = new("aten::mean", "dim");
    private static readonly Operator MaxAll = new("aten::max");
    private static readonly Operator MinAll = new("aten::min");
    private static readonly Operator MaxOne = new("aten::amax");
    private static readonly Operator AllOp = new("aten::all");
    private static readonly Operator CumulativeSumOp = new("aten::cumsum");
    private static readonly Operator LogSumExpOp = new("aten::logsumexp");
    private static readonly Operator NormOp = new("aten::linalg_vector_norm");
    private static readonly Operator SoftmaxOp = new("aten::softmax", "int");
    private static readonly Operator LogSoftmaxOp = new("aten::log_softmax", "int");
    private static readonly Operator SortOp = new("aten::sort", "stable");
    private static readonly Operator CrossEntropyOp = new("aten::cross_entropy_loss");

    /// <summary>Sum of all elements, a scalar; int64 for integers and bool.</summary>
    public static Tensor Sum(this Tensor x) => SumAll.Call(x);

    /// <summary>Sum along one dimension.</summary>
    public static Tensor Sum(this Tensor x, int dimension, bool keep = false) => SumOne.Call(x, new long[] { dimension }, keep);

    /// <summary>Mean of all elements, a scalar.</summary>
    public static Tensor Mean(this Tensor x) => MeanAll.Call(x);

    /// <summary>Mean along one dimension.</summary>
    public static Tensor Mean(this Tensor x, int dimension, bool keep = false) => MeanOne.Call(x, new long[] { dimension }, keep);

    /// <summary>Largest element, a scalar.</summary>
    public static Tensor Max(this Tensor x) => MaxAll.Call(x);

    /// <summary>Smallest element, a scalar.</summary>
    public static Tensor Min(this Tensor x) => MinAll.Call(x);

    /// <summary>Largest elements along one dimension.</summary>
    public static Tensor Max(this Tensor x, int dimension, bool keep = false) => MaxOne.Call(x, new long[] { dimension }, keep);

    /// <summary>Whether all elements hold, a bool scalar.</summary>
    public static Tensor All(this Tensor x) => AllOp.Call(x);

    /// <summary>Running sums along one dimension.</summary>
    public static Tensor CumulativeSum(this Tensor x, int dimension) => CumulativeSumOp.Call(x, dimension);

    /// <summary>log(sum(exp(x))) along one dimension, without overflow.</summary>
    public static Tensor LogSumExp(this Tensor x, int dimension, bool keep = false) => LogSumExpOp.Call(x, new long[] { dimension }, keep);

    /// <summary>Euclidean norm of all elements, a scalar.</summary>
    public static Tensor Norm(this Tensor x) => NormOp.Call(x);

    /// <summary>Largest magnitude of each matrix of x [B, R, C] -> [B]; NaN where one is NaN.</summary>
    public static Tensor LargestMagnitudes(this Tensor x) => NormOp.Call(x, double.PositiveInfinity, new long[] { 1, 2 });

    /// <summary>exp(x) over its sum along one dimension.</summary>
    public static Tensor Softmax(this Tensor x, int dimension) => SoftmaxOp.Call(x, dimension);

    /// <summary>x - logsumexp(x) along one dimension.</summary>
    public static Tensor LogSoftmax(this Tensor x, int dimension) => LogSoftmaxOp.Call(x, dimension);

    /// <summary>Places (int64) of the elements in ascending order along one dimension; equal ones keep their order.</summary>
    public static Tensor ArgSort(this Tensor x, int dimension = -1, bool descending = false) => Second(SortOp.CallMany(2, x, true, dimension, descending));

    /// <summary>-log softmax(logits)[target], summed over all rows: logits [N, C] floating, targets [N] int64.</summary>
    public static Tensor CrossEntropySum(this Tensor logits, Tensor targets) => CrossEntropyOp.Call(logits, targets, Argument.None, SumReduction);

    private static Tensor Second(Tensor[] results)
    {
        results[0].Dispose();
        return results[1];
    }
}

using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Joins what the ranks sent in the order of the ranks, so that the result depends on nothing else.</summary>
internal static class OrderedReduction
{
    private static readonly Operator Maximum = new("aten::maximum");
    private static readonly Operator Minimum = new("aten::minimum");

    /// <summary>Writes the reduction of <paramref name="gathered"/> over its first axis, and frees it.</summary>
    /// <param name="target">As many elements as a row of <paramref name="gathered"/>, contiguous.</param>
    /// <param name="gathered">[ranks, n], outside any scope.</param>
    /// <param name="operation">How to join the rows.</param>
    public static Transfer Into(Tensor target, Tensor gathered, ReduceOperation operation)
    {
        using var scope = new TensorScope();
        using var mode = Autograd.NoGrad();
        var result = target.View(target.Count);
        result.CopyFrom_(gathered.Select(0, 0));
        for (var rank = 1; rank < gathered.Size(0); rank++)
        {
            var row = gathered.Select(0, rank);
            switch (operation)
            {
                case ReduceOperation.Max:
                    result.CopyFrom_(Maximum.Call(result, row));
                    break;
                case ReduceOperation.Min:
                    result.CopyFrom_(Minimum.Call(result, row));
                    break;
                default:
                    result.Add_(row);
                    break;
            }
        }

        gathered.Dispose();
        return Transfer.Done;
    }
}

using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Joins what the ranks sent in the order of the ranks, so that the result depends on nothing else.</summary>
internal static class OrderedReduction
{
    /// <summary>Writes the reduction of <paramref name="gathered"/> over its first axis, and frees it.</summary>
    /// <param name="target">Address of as many elements as a row of <paramref name="gathered"/> has.</param>
    /// <param name="gathered">[ranks, n], outside any scope.</param>
    /// <param name="operation">How to join the rows.</param>
    public static Transfer Into(nint target, Tensor gathered, ReduceOperation operation)
    {
        if (gathered.Count > 0)
        {
            C10dAbi.Check(C10dAbi.ReduceRows(
                target, gathered.DataPointer, gathered.Size(0), gathered.Size(1), (int)gathered.DType, (int)operation));
        }

        gathered.Dispose();
        return Transfer.Done;
    }
}

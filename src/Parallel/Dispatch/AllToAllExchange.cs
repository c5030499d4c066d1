using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// Rows that travel by all-to-all between the ranks that have the tokens and the ranks that have the experts; the way back is the adjoint of
/// the way out.
/// </summary>
/// <remarks>Shapes: N rows leave by rank, n arrive by rank. Forward and backward go by the same sizes.</remarks>
/// <param name="group">The ranks that divide the experts.</param>
/// <param name="layer">For the messages of failures.</param>
/// <param name="leavingRows">[ranks]: rows to each rank.</param>
/// <param name="arrivingRows">[ranks]: rows from each rank.</param>
internal sealed class AllToAllExchange(ProcessGroup group, int? layer, long[] leavingRows, long[] arrivingRows)
{
    /// <summary>N.</summary>
    public long LeavingRows { get; } = leavingRows.Sum();

    /// <summary>n.</summary>
    public long ArrivingRows { get; } = arrivingRows.Sum();

    /// <summary>From the tokens' side [N, ...] to the experts' [n, ...]. The rows are there when the work is done.</summary>
    /// <param name="rows">[N, ...].</param>
    /// <param name="purpose">For the messages of failures.</param>
    public (Tensor Rows, Work Work) Send(Tensor rows, string purpose) => Start(rows, arrivingRows, ArrivingRows, leavingRows, purpose);

    /// <summary>From the experts' side [n, ...] to the tokens' [N, ...]. The rows are there when the work is done.</summary>
    /// <param name="rows">[n, ...].</param>
    /// <param name="purpose">For the messages of failures.</param>
    public (Tensor Rows, Work Work) Return(Tensor rows, string purpose) => Start(rows, leavingRows, LeavingRows, arrivingRows, purpose);

    private (Tensor Rows, Work Work) Start(Tensor rows, long[] outputRows, long count, long[] inputRows, string purpose)
    {
        var output = rows.NewEmpty([count, rows.Size(1)]);
        return (output, group.Trace.Labelled(purpose, layer, () => group.AllToAllAsync(output, rows, outputRows, inputRows)));
    }
}

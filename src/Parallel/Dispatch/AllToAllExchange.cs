using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// Rows that travel by all-to-all between the ranks that have the tokens and the ranks that have the experts; the way back is the adjoint of
/// the way out.
/// </summary>
/// <remarks>
/// Shapes: N rows leave by rank, n arrive by rank. The sizes are under way from the construction on, and waited for by <see cref="AwaitSizes"/>:
/// the one time that the host waits for a device. Forward and backward go by the same sizes.
/// </remarks>
internal sealed class AllToAllExchange
{
    private readonly ProcessGroup _group;
    private readonly int? _layer;
    private readonly Tensor _sizes; // [2, ranks, 2]
    private readonly Work _work;
    private long[] _leavingRows = []; // [ranks]
    private long[] _arrivingRows = []; // [ranks]

    /// <param name="group">The ranks that divide the experts.</param>
    /// <param name="sizes">[2, ranks, 2] int64: rows and choices for each rank, and room for those from each rank.</param>
    public AllToAllExchange(ProcessGroup group, Tensor sizes)
    {
        (_group, _layer, _sizes) = (group, group.Trace.Layer, sizes);
        long[] one = [.. Enumerable.Repeat(1L, group.Size)];
        _work = group.Trace.Labelled("moe.counts", _layer, () => group.AllToAllAsync(sizes.Select(0, 1), sizes.Select(0, 0), one, one));
    }

    /// <summary>N.</summary>
    public long LeavingRows { get; private set; }

    /// <summary>n.</summary>
    public long ArrivingRows { get; private set; }

    /// <summary>The choices that come with the rows: R.</summary>
    public long ArrivingChoices { get; private set; }

    /// <summary>Waits until the sizes are known on the host.</summary>
    public void AwaitSizes()
    {
        _work.WaitOnHost();
        var sizes = _sizes.ToArray<long>();
        var ranks = _group.Size;
        _leavingRows = [.. Enumerable.Range(0, ranks).Select(rank => sizes[2 * rank])];
        _arrivingRows = [.. Enumerable.Range(ranks, ranks).Select(rank => sizes[2 * rank])];
        (LeavingRows, ArrivingRows) = (_leavingRows.Sum(), _arrivingRows.Sum());
        ArrivingChoices = Enumerable.Range(ranks, ranks).Sum(rank => sizes[(2 * rank) + 1]);
    }

    /// <summary>From the tokens' side [N, ...] to the experts' [n, ...].</summary>
    /// <param name="rows">[N, ...].</param>
    /// <param name="purpose">For the messages of failures.</param>
    public Tensor Send(Tensor rows, string purpose) => Exchange(rows, _arrivingRows, ArrivingRows, _leavingRows, purpose);

    /// <summary>From the experts' side [n, ...] to the tokens' [N, ...].</summary>
    /// <param name="rows">[n, ...].</param>
    /// <param name="purpose">For the messages of failures.</param>
    public Tensor Return(Tensor rows, string purpose) => Exchange(rows, _leavingRows, LeavingRows, _arrivingRows, purpose);

    private Tensor Exchange(Tensor rows, long[] outputRows, long count, long[] inputRows, string purpose)
    {
        var output = rows.NewEmpty([count, rows.Size(1)]);
        _group.Trace.Labelled(purpose, _layer, () => _group.AllToAllAsync(output, rows, outputRows, inputRows)).Wait();
        return output;
    }
}

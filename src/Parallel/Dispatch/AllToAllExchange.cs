using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Rows that travel by all-to-all, and are regrouped where they arrive.</summary>
/// <remarks>
/// What arrives stands by source rank and then by expert; experts want it by expert and then by source rank.
/// The counts are under way from the construction on, and waited for by the first <see cref="Send"/>.
/// </remarks>
internal sealed class AllToAllExchange : RowExchange
{
    private readonly ProcessGroup _group;
    private readonly int? _layer;
    private readonly long[] _sentRows; // [ranks]
    private readonly long[] _arrivingRows; // [ranks]
    private readonly long[] _rowsPerExpert; // [E_local]
    private readonly Tensor _arrivingCounts; // [ranks * E_local]: by source rank, then by local expert
    private Work? _counts;
    private int[] _grouped = []; // [R]: place by expert -> place of arrival
    private int[] _arrived = []; // [R]: the inverse

    /// <param name="group">The ranks that divide the experts.</param>
    /// <param name="counts">[E]: rows of this rank for each expert.</param>
    public AllToAllExchange(ProcessGroup group, long[] counts)
    {
        var local = counts.Length / group.Size;
        _group = group;
        _layer = group.Trace.Layer;
        _sentRows = [.. counts.Chunk(local).Select(chunk => chunk.Sum())];
        _arrivingRows = new long[group.Size];
        _rowsPerExpert = new long[local];
        _arrivingCounts = Tensor.Empty([counts.Length], DType.Int64).Detached();
        using var sent = Tensor.From(counts, counts.Length);
        long[] equal = [.. Enumerable.Repeat((long)local, group.Size)];
        _counts = group.Trace.Labelled("moe.counts", _layer, () => group.AllToAllAsync(_arrivingCounts, sent, equal, equal));
    }

    public override long[] RowsPerExpert => _rowsPerExpert;

    public override Tensor Send(Tensor rows, string purpose)
    {
        AwaitCounts();
        var arrived = Tensor.Empty([_grouped.Length, rows.Size(1)], rows.DType);
        Exchange(arrived, rows, _arrivingRows, _sentRows, purpose);
        return IsGrouped ? arrived : RowKernels.Gather(arrived, _grouped);
    }

    public override Tensor Return(Tensor rows, string purpose)
    {
        var leaving = IsGrouped ? rows : RowKernels.Gather(rows, _arrived);
        var returned = Tensor.Empty([_sentRows.Sum(), rows.Size(1)], rows.DType);
        Exchange(returned, leaving, _sentRows, _arrivingRows, purpose);
        return returned;
    }

    // With one local expert, or one source, both orders are the same.
    private bool IsGrouped => _rowsPerExpert.Length == 1 || _group.Size == 1;

    private void AwaitCounts()
    {
        if (_counts is null)
        {
            return;
        }

        _counts.Wait();
        _counts = null;
        var counts = _arrivingCounts.ToArray<long>();
        _arrivingCounts.Dispose();
        for (var i = 0; i < counts.Length; i++)
        {
            _arrivingRows[i / _rowsPerExpert.Length] += counts[i];
            _rowsPerExpert[i % _rowsPerExpert.Length] += counts[i];
        }

        Group(counts);
    }

    private void Group(long[] counts)
    {
        var next = new int[_rowsPerExpert.Length];
        for (var expert = 1; expert < next.Length; expert++)
        {
            next[expert] = next[expert - 1] + checked((int)_rowsPerExpert[expert - 1]);
        }

        _grouped = new int[_arrivingRows.Sum()];
        _arrived = new int[_grouped.Length];
        var place = 0;
        for (var i = 0; i < counts.Length; i++)
        {
            ref var grouped = ref next[i % next.Length];
            for (var row = 0L; row < counts[i]; row++)
            {
                _arrived[place] = grouped;
                _grouped[grouped++] = place++;
            }
        }
    }

    private void Exchange(Tensor output, Tensor input, long[] outputRows, long[] inputRows, string purpose)
    {
        using var packed = input.Contiguous();
        _group.Trace.Labelled(purpose, _layer, () => _group.AllToAllAsync(output, packed, outputRows, inputRows)).Wait();
    }
}

namespace Moe.Torch;

/// <summary>How rows that are sorted by group divide among the groups: the rows of each expert. The numbers stay on the rows' device.</summary>
/// <remarks>Shapes: E groups, R rows. On a device there may be more rows than the last offset says; what stands beyond belongs to no group.</remarks>
public sealed class RowGroups
{
    private readonly long _rows;

    /// <param name="offsets">[E] int32: inclusive sums of the groups' rows.</param>
    public RowGroups(Tensor offsets) => Offsets = offsets;

    private RowGroups(long rows) => _rows = rows;

    /// <summary>[E] int32, inclusive sums of the groups' rows; null where all rows are one group.</summary>
    public Tensor? Offsets { get; }

    /// <summary>All rows in one group.</summary>
    /// <param name="rows">R.</param>
    public static RowGroups Whole(long rows) => new(rows);

    /// <summary>The same groups for rows on a device.</summary>
    public RowGroups To(Device device) => Offsets is null ? this : new RowGroups(Offsets.To(device));

    /// <summary>Groups of these lengths, in host memory.</summary>
    /// <param name="rowsPerGroup">[E]; any may be 0.</param>
    /// <exception cref="OverflowException">2^31 rows or more.</exception>
    public static RowGroups Of(params ReadOnlySpan<long> rowsPerGroup)
    {
        var offsets = Tensor.Empty([rowsPerGroup.Length], DType.Int32);
        var ends = offsets.Span<int>();
        var end = 0;
        for (var group = 0; group < ends.Length; group++)
        {
            end = checked(end + (int)rowsPerGroup[group]);
            ends[group] = end;
        }

        return new RowGroups(offsets);
    }

    /// <summary>[E]: rows of each group. From a device, it waits for the device's work.</summary>
    public long[] Lengths()
    {
        if (Offsets is null)
        {
            return [_rows];
        }

        var ends = Offsets.ToArray<int>();
        var lengths = new long[ends.Length];
        for (var group = 0; group < ends.Length; group++)
        {
            lengths[group] = ends[group] - (group == 0 ? 0 : ends[group - 1]);
        }

        return lengths;
    }
}

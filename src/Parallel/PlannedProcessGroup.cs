namespace Moe.Distributed;

/// <summary>
/// Ranks that don't exist (yet): size and members of a group, for asking a <see cref="DeviceMesh"/> who would own, reduce and receive what on
/// any number of ranks. It communicates nothing.
/// </summary>
public sealed class PlannedProcessGroup : ProcessGroup
{
    /// <param name="size">Ranks of the job, at least 1.</param>
    /// <param name="rank">The one through whose eyes the mesh is seen, in [0, <paramref name="size"/>).</param>
    public PlannedProcessGroup(int size, int rank = 0)
        : this("world", [.. Enumerable.Range(0, size)], rank)
    {
    }

    private PlannedProcessGroup(string name, int[] members, int rank)
        : base(name, members, rank, TimeSpan.MaxValue, new CollectiveTrace())
    {
    }

    /// <inheritdoc/>
    public override string Backend => "planned";

    private protected override Transfer StartExchange(nint output, nint input, long[] outputBytes, long[] inputBytes) => throw Refused();

    private protected override Transfer StartGather(nint output, nint input, long[] bytes) => throw Refused();

    private protected override Transfer StartBroadcast(nint values, long bytes, int root) => throw Refused();

    private protected override Transfer StartBarrier() => throw Refused();

    private protected override Transfer StartAllReduce(Torch.Tensor values, ReduceOperation operation, long bytes) => throw Refused();

    private protected override ProcessGroup Create(int[] ranks, int[] members, string name, string key) =>
        new PlannedProcessGroup(name, members, Array.IndexOf(ranks, Rank));

    private protected override void Release(Departure departure)
    {
    }

    private InvalidOperationException Refused() => new($"group '{Name}' is a plan: its ranks don't run");
}

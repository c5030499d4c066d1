using Moe.Torch;

namespace Moe.Distributed;

/// <summary>A group of one process: every operation is a copy within its memory.</summary>
public sealed class SingleProcessGroup : ProcessGroup
{
    /// <param name="timeout">Never reached; other groups that are made from this one have it too.</param>
    /// <param name="trace">Shared by all groups of the process; left out, a new one.</param>
    /// <param name="name">For messages.</param>
    /// <param name="worldRank">Of this process, where it is not alone in the job.</param>
    public SingleProcessGroup(TimeSpan timeout, CollectiveTrace? trace = null, string name = "world", int worldRank = 0)
        : base(name, [worldRank], 0, timeout, trace ?? new CollectiveTrace())
    {
    }

    /// <inheritdoc/>
    public override string Backend => "single";

    private protected override Transfer StartExchange(nint output, nint input, long[] outputBytes, long[] inputBytes) =>
        Copy(output, input, inputBytes[0]);

    private protected override Transfer StartGather(nint output, nint input, long[] bytes) => Copy(output, input, bytes[0]);

    private protected override Transfer StartBroadcast(nint values, long bytes, int root) => Transfer.Done;

    private protected override Transfer StartBarrier() => Transfer.Done;

    private protected override Transfer StartAllReduce(Tensor values, ReduceOperation operation, long bytes) => Transfer.Done;

    private protected override ProcessGroup Create(int[] ranks, int[] members, string name, string key) =>
        new SingleProcessGroup(Timeout, Trace, name, members[0]);

    private protected override void Release(Departure departure)
    {
    }

    private static unsafe Transfer Copy(nint output, nint input, long bytes)
    {
        Buffer.MemoryCopy((void*)input, (void*)output, bytes, bytes);
        return Transfer.Done;
    }
}

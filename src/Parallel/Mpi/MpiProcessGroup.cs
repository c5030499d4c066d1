using Moe.Torch;
using Moe.Torch.Native;

namespace Moe.Distributed.Mpi;

/// <summary>Ranks that were started by an MPI launcher, over a communicator of their own.</summary>
/// <remarks>
/// MPI moves data only while it is called: what overlaps other work progresses at the start, at <see cref="Work.IsCompleted"/> and in
/// <see cref="Work.Wait"/>. After one failure no group of the process calls MPI again, and <see cref="ProcessGroup.Close"/> is out of
/// reach: the process exits, and the MPI launcher, which sees that it did not take its leave, ends the others.
/// </remarks>
public sealed class MpiProcessGroup : ProcessGroup
{
    // Above this, an all-reduce sends each rank its part to sum and gathers the sums; below, everything in one round. Measured on
    // 4 ranks of one machine: 48 us against 78 us for 16 KB a rank, 99 against 95 for 64 KB, 7.9 ms against 3.5 ms for 4 MB.
    private const long GatheredLimit = 128 * 1024;
    private const int CreationTag = 0;

    private readonly MpiSession _session;
    private readonly bool _isWorld;
    private readonly nint _handle;
    private int _tag;

    private MpiProcessGroup(
        MpiSession session, nint handle, string name, int[] members, int rank, TimeSpan timeout, CollectiveTrace trace, bool isWorld)
        : base(name, members, rank, timeout, trace)
    {
        _session = session;
        _handle = handle;
        _isWorld = isWorld;
    }

    /// <summary>Whether libmoe_mpi was built, which needs an MPI installation.</summary>
    public static bool IsBuilt => NativeFolder.Find(MpiAbi.Library) is not null;

    /// <inheritdoc/>
    public override string Backend => "mpi";

    /// <summary>Most bytes of one MPI message, whose counts are int; larger ones are sent in pieces. The same on all ranks.</summary>
    internal long MessageLimit { get; set; } = 1L << 30;

    /// <summary>Joins the job that the MPI launcher started; once a process.</summary>
    /// <param name="timeout">The longest that one operation may take.</param>
    /// <param name="trace">Shared by all groups of the process; left out, a new one.</param>
    /// <returns>All ranks of the job.</returns>
    /// <exception cref="NativeLibraryException">libmoe_mpi was not built.</exception>
    /// <exception cref="CommunicationException">MPI could not start.</exception>
    public static MpiProcessGroup Initialize(TimeSpan timeout, CollectiveTrace? trace = null)
    {
        try
        {
            MpiAbi.Check(MpiAbi.Initialize(out var world, out var rank, out var size, out var tagLimit));
            int[] members = [.. Enumerable.Range(0, size)];
            return new MpiProcessGroup(
                new MpiSession(tagLimit), world, "world", members, rank, timeout, trace ?? new CollectiveTrace(), isWorld: true);
        }
        catch (TransferException e)
        {
            throw new CommunicationException($"MPI did not start: {e.Message}");
        }
    }

    private protected override Transfer StartExchange(nint output, nint input, long[] outputBytes, long[] inputBytes) =>
        Exchange(NextTag(), output, Offsets(outputBytes), outputBytes, input, Offsets(inputBytes), inputBytes);

    private protected override Transfer StartGather(nint output, nint input, long[] bytes) =>
        Exchange(NextTag(), output, Offsets(bytes), bytes, input, new long[Size], Equal(bytes[Rank]));

    private protected override Transfer StartBroadcast(nint values, long bytes, int root)
    {
        MpiAbi.Check(MpiAbi.Broadcast(Usable(), values, bytes, root, MessageLimit, out var transfer));
        return new MpiTransfer(transfer, _session, Members);
    }

    private protected override Transfer StartBarrier()
    {
        MpiAbi.Check(MpiAbi.Barrier(Usable(), out var transfer));
        return new MpiTransfer(transfer, _session, Members);
    }

    private protected override Transfer StartAllReduce(Tensor values, ReduceOperation operation, long bytes) =>
        bytes * Size <= GatheredLimit ? StartGatheredReduce(values, operation, bytes) : StartPartitionedReduce(values, operation);

    private protected override unsafe ProcessGroup Create(int[] ranks, int[] members, string name, string key)
    {
        // MPI_Comm_create_group blocks, so it is called only when all of them are known to be here.
        var one = new long[Size];
        foreach (var rank in ranks)
        {
            one[rank] = 1;
        }

        // Freed only where all came: a receive from one that did not stays posted.
        var received = Tensor.Empty([ranks.Length], DType.UInt8).Detached();
        var sent = Tensor.Zeros([ranks.Length], DType.UInt8).Detached();
        Exchange(CreationTag, received.DataPointer, Offsets(one), one, sent.DataPointer, Offsets(one), one).Wait(Timeout);
        received.Dispose();
        sent.Dispose();
        fixed (int* included = ranks)
        {
            MpiAbi.Check(MpiAbi.CreateGroup(Usable(), included, ranks.Length, out var created));
            return new MpiProcessGroup(_session, created, name, members, Array.IndexOf(ranks, Rank), Timeout, Trace, isWorld: false)
            {
                MessageLimit = MessageLimit,
            };
        }
    }

    private protected override void Release(Departure departure)
    {
        if (departure == Departure.AfterFailure || (departure == Departure.Alone && _isWorld))
        {
            _session.IsOver = true;
        }
        else if (!_session.IsOver)
        {
            MpiAbi.Check(MpiAbi.FreeGroup(_handle));
            if (_isWorld)
            {
                _session.IsOver = true;
                MpiAbi.Check(MpiAbi.Complete());
            }
        }
    }

    // Two rounds, each of which moves (Size - 1) / Size of the tensor: every rank joins its own part of all tensors, then all get
    // all parts.
    private DrivenTransfer StartPartitionedReduce(Tensor values, ReduceOperation operation)
    {
        var tag = NextTag();
        var gatherTag = NextTag(); // taken now, so that it is the same on all ranks whenever they come to it
        var width = values.DType.Size();
        var starts = new long[Size];
        var parts = new long[Size];
        for (var rank = 0; rank < Size; rank++)
        {
            starts[rank] = values.Count * rank / Size * width;
            parts[rank] = (values.Count * (rank + 1) / Size * width) - starts[rank];
        }

        var own = Equal(parts[Rank]);
        var gathered = Tensor.Empty([Size, parts[Rank] / width], values.DType).Detached();
        var scattered = Exchange(tag, gathered.DataPointer, Offsets(own), own, values.DataPointer, starts, parts);
        return _session.Drive(new ChainedTransfer(scattered, () =>
        {
            OrderedReduction.Into((nint)(values.DataPointer + starts[Rank]), gathered, operation);
            return Exchange(gatherTag, values.DataPointer, starts, parts, values.DataPointer, Equal(starts[Rank]), own);
        }));
    }

    private unsafe MpiTransfer Exchange(
        int tag, nint output, long[] receiveOffsets, long[] receiveBytes, nint input, long[] sendOffsets, long[] sendBytes)
    {
        fixed (long* receiveFrom = receiveOffsets, receiveCount = receiveBytes, sendFrom = sendOffsets, sendCount = sendBytes)
        {
            MpiAbi.Check(MpiAbi.Exchange(
                Usable(), tag, MessageLimit, output, receiveFrom, receiveCount, input, sendFrom, sendCount, out var transfer));
            return new MpiTransfer(transfer, _session, Members);
        }
    }

    private nint Usable() => _session.IsOver
        ? throw new TransferException("MPI is of no more use in this process since an earlier failure")
        : _handle;

    // A wrong order of calls on one rank must not pair messages of different operations.
    private int NextTag() => _tag = (_tag % _session.TagLimit) + 1;

    private static long[] Offsets(long[] bytes)
    {
        var offsets = new long[bytes.Length];
        for (var rank = 1; rank < bytes.Length; rank++)
        {
            offsets[rank] = offsets[rank - 1] + bytes[rank - 1];
        }

        return offsets;
    }
}

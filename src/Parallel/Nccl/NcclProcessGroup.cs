using Moe.Torch;

namespace Moe.Distributed.Nccl;

/// <summary>Ranks with a GPU each that met in a <see cref="StoreServer"/>, over communicators of NCCL.</summary>
/// <remarks>
/// Every group has a stream of its own. An operation begins when the work of the current stream is done; <see cref="Work.Wait"/> makes the
/// current stream wait for it, and the host goes on. A watchdog thread sees time-outs and errors, gives up all groups of the process, and the next operation or
/// wait throws. The tensors of the host are copied to the device and back, which the host waits for.
/// </remarks>
public sealed class NcclProcessGroup : ProcessGroup
{
    private static readonly TimeSpan DefaultStartTimeout = TimeSpan.FromMinutes(5);
    private static readonly Operator Largest = new("aten::amax");
    private static readonly Operator Smallest = new("aten::amin");

    private readonly NcclSession _session;
    private readonly NcclCommunicator _communicator;
    private readonly string _key;
    private readonly bool _isWorld;
    private readonly Tensor _token; // what a barrier adds up

    private NcclProcessGroup(NcclSession session, string key, string name, int[] members, int rank, TimeSpan timeout, TimeSpan joinTimeout, bool isWorld)
        : base(name, members, rank, timeout, session.Trace)
    {
        _session = session;
        _key = key;
        _isWorld = isWorld;
        _communicator = session.Join(key, members, JoinCall(), joinTimeout);
        _token = Tensor.Zeros([1], DType.Float32, session.Device).Detached();
        StartBarrier(JoinCall()).Wait(timeout); // shows now, and not in a step, whether the ranks reach each other
    }

    /// <inheritdoc/>
    public override string Backend => "nccl";

    private protected override Device MemoryDevice => _session.Device;

    /// <summary>Meets the other ranks of the job in its store.</summary>
    /// <param name="store">Where the store is, and under which name the ranks meet.</param>
    /// <param name="rank">This process, in [0, <paramref name="size"/>).</param>
    /// <param name="size">Ranks of the job, at least 2.</param>
    /// <param name="device">The GPU of this rank, and of no other; the calling thread's.</param>
    /// <param name="timeout">The longest that one operation may take.</param>
    /// <param name="trace">Shared by all groups of the process; left out, a new one.</param>
    /// <param name="startTimeout">The longest that the ranks may differ in their start; left out, 5 minutes.</param>
    /// <param name="library">Path of libnccl.so.2; left out, it is searched.</param>
    /// <returns>All ranks of the job.</returns>
    /// <exception cref="NativeLibraryException">There is no NCCL.</exception>
    /// <exception cref="CommunicationException">The store cannot be reached, or not all ranks came in time.</exception>
    public static NcclProcessGroup Connect(
        StoreAddress store,
        int rank,
        int size,
        Device device,
        TimeSpan timeout,
        CollectiveTrace? trace = null,
        TimeSpan? startTimeout = null,
        string? library = null)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(size, 2);
        NcclLibrary.Load(library);
        var patience = startTimeout ?? DefaultStartTimeout;
        try
        {
            var session = new NcclSession(new StoreConnection(store.Host, store.Port, patience), store.Meeting, rank, device, trace ?? new CollectiveTrace());
            int[] members = [.. Enumerable.Range(0, size)];
            return new NcclProcessGroup(session, "world", "world", members, rank, timeout, patience, isWorld: true);
        }
        catch (TransferException e)
        {
            throw e.Cause ?? new CommunicationException($"rank {rank} of {size} could not join the job at {store.Host}:{store.Port}: {e.Message}")
            {
                Rank = rank,
                Group = "world",
                TimedOut = e.TimedOut,
            };
        }
    }

    private protected override Transfer StartExchange(nint output, nint input, long[] outputBytes, long[] inputBytes) => Start((communicator, stream) =>
    {
        for (var peer = 0; peer < Size; peer++)
        {
            if (inputBytes[peer] > 0)
            {
                NcclAbi.Check(NcclAbi.Send(input, (nuint)inputBytes[peer], NcclType.Int8, peer, communicator, stream));
            }

            if (outputBytes[peer] > 0)
            {
                NcclAbi.Check(NcclAbi.Receive(output, (nuint)outputBytes[peer], NcclType.Int8, peer, communicator, stream));
            }

            input += (nint)inputBytes[peer];
            output += (nint)outputBytes[peer];
        }
    });

    private protected override Transfer StartGather(nint output, nint input, long[] bytes) => Start((communicator, stream) =>
    {
        if (IsEven(bytes))
        {
            NcclAbi.Check(NcclAbi.AllGather(input, output, (nuint)bytes[0], NcclType.Int8, communicator, stream));
            return;
        }

        for (var root = 0; root < Size; root++)
        {
            if (bytes[root] > 0)
            {
                NcclAbi.Check(NcclAbi.Broadcast(root == Rank ? input : output, output, (nuint)bytes[root], NcclType.Int8, root, communicator, stream));
            }

            output += (nint)bytes[root];
        }
    });

    private protected override Transfer StartBroadcast(nint values, long bytes, int root) => Start((communicator, stream) =>
        NcclAbi.Check(NcclAbi.Broadcast(values, values, (nuint)bytes, NcclType.Int8, root, communicator, stream)));

    private protected override Transfer StartBarrier() => StartBarrier(Starting);

    // NCCL's Max and Min lose NaNs.
    private protected override Transfer StartAllReduce(Tensor values, ReduceOperation operation, long bytes)
    {
        var (type, address) = (values.DType, values.DataPointer);
        if (operation == ReduceOperation.Sum)
        {
            return Start((communicator, stream) => NcclAbi.Check(
                NcclAbi.AllReduce(address, address, (nuint)(bytes / type.Size()), NcclAbi.TypeOf(type), NcclAbi.Sum, communicator, stream)));
        }

        var gathered = Gathered(values.Count, type);
        return new ChainedTransfer(StartGather(gathered.DataPointer, address, Equal(bytes)), () => Join(values, gathered, operation));
    }

    private protected override Transfer StartReduceScatter(Tensor output, Tensor input, long[] bytes, ReduceOperation operation)
    {
        if (operation != ReduceOperation.Sum)
        {
            var gathered = Gathered(output.Count, output.DType);
            return new ChainedTransfer(
                StartExchange(gathered.DataPointer, input.DataPointer, Equal(bytes[Rank]), bytes), () => Join(output, gathered, operation));
        }

        var (type, width) = (NcclAbi.TypeOf(input.DType), input.DType.Size());
        var (to, from) = (output.DataPointer, input.DataPointer);
        return Start((communicator, stream) =>
        {
            if (IsEven(bytes))
            {
                NcclAbi.Check(NcclAbi.ReduceScatter(from, to, (nuint)(bytes[0] / width), type, NcclAbi.Sum, communicator, stream));
                return;
            }

            for (var root = 0; root < Size; root++)
            {
                if (bytes[root] > 0)
                {
                    // Only the root's output is written.
                    NcclAbi.Check(NcclAbi.Reduce(
                        from, root == Rank ? to : from, (nuint)(bytes[root] / width), type, NcclAbi.Sum, root, communicator, stream));
                }

                from += (nint)bytes[root];
            }
        });
    }

    private protected override ProcessGroup Create(int[] ranks, int[] members, string name, string key) => new NcclProcessGroup(
        _session, $"{_key}/{key}", name, members, Array.IndexOf(ranks, Rank), Timeout, Timeout, isWorld: false);

    // A communicator's memory may be read by a peer that is not as far yet: it is given back when all have come to the world's end. A rank that
    // leaves on its own exits, which frees it too.
    private protected override void Release(Departure departure)
    {
        switch (departure)
        {
            case Departure.Together when _isWorld:
                _token.Dispose();
                _session.Dispose();
                break;
            case Departure.AfterFailure:
                _session.Fail(Failure!, isAnswered: true);
                break;
        }
    }

    private static bool IsEven(long[] bytes) => Array.TrueForAll(bytes, one => one == bytes[0]);

    private static Transfer Join(Tensor target, Tensor gathered, ReduceOperation operation)
    {
        using var mode = Autograd.NoGrad();
        if (target.Count > 0)
        {
            using var joined = (operation == ReduceOperation.Max ? Largest : Smallest).Call(gathered, new long[] { 0 }, false);
            using var flat = target.View(target.Count);
            flat.CopyFrom_(joined);
        }

        gathered.Dispose();
        return Transfer.Done;
    }

    private Tensor Gathered(long count, DType type) => Tensor.Empty([Size, count], type, _session.Device).Detached();

    private NcclOperation Start(NcclCalls calls) => _communicator.Start(Starting, calls);

    private SettledTransfer StartBarrier(CollectiveCall call)
    {
        var token = _token.DataPointer;
        return new SettledTransfer(_communicator.Start(call, (communicator, stream) =>
            NcclAbi.Check(NcclAbi.AllReduce(token, token, 1, NcclType.Float32, NcclAbi.Sum, communicator, stream))));
    }

    private CollectiveCall JoinCall() => new(this, Collective.CreateGroup, Trace.Sequence, Trace.Step, Trace.Layer, Trace.Phase, 0);
}

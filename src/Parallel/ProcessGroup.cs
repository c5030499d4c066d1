using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// Ranks that communicate. Every member calls the same operations on a group in the same order, from one thread; the tensors must
/// be contiguous. One that stands where the transport cannot reach it is copied there and back, which the host waits for. Each operation ends within <see cref="Timeout"/>, or throws a <see cref="CommunicationException"/>
/// that says where it was.
/// </summary>
/// <remarks>
/// Reductions are deterministic: all ranks get the same bits, and get them again from the same inputs. They add in the order of the ranks, but for NCCL's,
/// and for Gloo's all-reduce of sums of more than 128 KiB over all ranks together: these have an order of their own. A group belongs to one stream
/// of operations: use one group for each stream that overlaps another (<see cref="DeviceMesh"/> has them).
/// A program that ends well calls <see cref="Close"/> on its world first; one that fails just disposes its groups and exits.
/// </remarks>
public abstract class ProcessGroup : IDisposable
{
    private readonly Dictionary<string, int> _created = [];
    private CommunicationException? _failure;
    private bool _disposed;

    /// <param name="name">For messages; also tells groups of the same ranks apart.</param>
    /// <param name="members">World ranks of the members, in the order of their ranks in the group.</param>
    /// <param name="rank">This process within the group.</param>
    /// <param name="timeout">The longest that one operation may take, above 0.</param>
    /// <param name="trace">Shared by all groups of the process.</param>
    private protected ProcessGroup(string name, int[] members, int rank, TimeSpan timeout, CollectiveTrace trace)
    {
        ArgumentOutOfRangeException.ThrowIfLessThanOrEqual(timeout, TimeSpan.Zero);
        Name = name;
        Members = members;
        Rank = rank;
        Timeout = timeout;
        Trace = trace;
    }

    /// <summary><c>mpi</c>, <c>gloo</c>, <c>nccl</c> or <c>single</c>.</summary>
    public abstract string Backend { get; }

    /// <summary>Name for messages, as in <c>world/expert</c>.</summary>
    public string Name { get; }

    /// <summary>This process within the group, from 0.</summary>
    public int Rank { get; }

    /// <summary>Number of members.</summary>
    public int Size => Members.Length;

    /// <summary>World ranks of the members, in the order of their ranks here. Not to be written to.</summary>
    public int[] Members { get; }

    /// <summary>The longest that one operation may take.</summary>
    public TimeSpan Timeout { get; }

    /// <summary>Shared by all groups of the process.</summary>
    public CollectiveTrace Trace { get; }

    /// <summary>Whose memory the transport reads and writes.</summary>
    private protected virtual Device MemoryDevice => Device.Cpu;

    /// <summary>What made the group useless; null while nothing has.</summary>
    private protected CommunicationException? Failure => _failure;

    /// <summary>The operation that is being started.</summary>
    private protected CollectiveCall Starting { get; private set; } = null!;

    /// <summary>Operations that were started and not yet seen to end.</summary>
    internal int UnderWay { get; set; }

    /// <summary>Joins <paramref name="values"/> of all ranks, in place and element by element.</summary>
    /// <param name="values">Float32, float64, int32 or int64; of the same shape on all ranks.</param>
    /// <param name="operation">How to join them.</param>
    /// <exception cref="ArgumentException">The tensor cannot be reduced.</exception>
    public Work AllReduceAsync(Tensor values, ReduceOperation operation = ReduceOperation.Sum)
    {
        CollectiveArguments.RequireReducible(values, nameof(values));
        var bytes = CollectiveArguments.Bytes(values);
        return Start(
            Collective.AllReduce,
            bytes,
            tensors => bytes == 0 || Size == 1 ? Transfer.Done : StartAllReduce(tensors[0], operation, bytes),
            Size == 1 ? [] : [values]); // alone, nothing moves: no copy between memories, which would wait for the device
    }

    /// <summary>Sends rows of axis 0 to each rank, and receives rows from each.</summary>
    /// <param name="output">[sum of <paramref name="outputRows"/>, ...], by source rank.</param>
    /// <param name="input">[sum of <paramref name="inputRows"/>, ...], by destination rank; any type, the same as the output's.</param>
    /// <param name="outputRows">Rows from each rank, at least 0.</param>
    /// <param name="inputRows">Rows to each rank, at least 0.</param>
    /// <exception cref="ArgumentException">Tensors and rows don't fit each other.</exception>
    public Work AllToAllAsync(Tensor output, Tensor input, long[] outputRows, long[] inputRows)
    {
        CollectiveArguments.RequireSameRows(output, input);
        CollectiveArguments.RequireSplits(output, outputRows, Size, nameof(outputRows));
        CollectiveArguments.RequireSplits(input, inputRows, Size, nameof(inputRows));
        if (outputRows[Rank] != inputRows[Rank])
        {
            throw new ArgumentException(
                $"rank {Rank} keeps {inputRows[Rank]} rows for itself, but expects {outputRows[Rank]} from itself", nameof(outputRows));
        }

        var rowBytes = CollectiveArguments.RowBytes(input);
        var leaving = rowBytes * (inputRows.Sum() - inputRows[Rank]);
        return Start(
            Collective.AllToAll,
            leaving,
            tensors => StartExchange(tensors[0].DataPointer, tensors[1].DataPointer, InBytes(outputRows, rowBytes), InBytes(inputRows, rowBytes)),
            [output, input],
            outputRows,
            inputRows);
    }

    /// <summary>Puts the inputs of all ranks after one another, in the order of the ranks.</summary>
    /// <param name="output">[Size * n, ...].</param>
    /// <param name="input">[n, ...], of the same shape on all ranks; any type.</param>
    /// <exception cref="ArgumentException">The shapes or types don't fit each other.</exception>
    public Work AllGatherAsync(Tensor output, Tensor input)
    {
        CollectiveArguments.RequireSameRows(output, input);
        CollectiveArguments.RequireTimes(output, input, Size, nameof(output));
        return AllGatherAsync(output, input, Equal(input.Size(0)));
    }

    /// <summary>Puts the inputs of all ranks, of different lengths, after one another, in the order of the ranks.</summary>
    /// <param name="output">[sum of <paramref name="rows"/>, ...].</param>
    /// <param name="input">[<paramref name="rows"/> of this rank, ...]; any type. It may be its own place in <paramref name="output"/>.</param>
    /// <param name="rows">Of each rank, at least 0; the same on all ranks.</param>
    /// <exception cref="ArgumentException">The shapes, types or rows don't fit each other.</exception>
    public Work AllGatherAsync(Tensor output, Tensor input, long[] rows)
    {
        CollectiveArguments.RequireSameRows(output, input);
        CollectiveArguments.RequireSplits(output, rows, Size, nameof(rows));
        CollectiveArguments.RequireRows(input, rows[Rank], nameof(input));
        var nothing = CollectiveArguments.Bytes(output) == 0;
        var bytes = InBytes(rows, CollectiveArguments.RowBytes(input));
        return Start(
            Collective.AllGather,
            bytes[Rank],
            tensors => nothing ? Transfer.Done : StartGather(tensors[0].DataPointer, tensors[1].DataPointer, bytes),
            [output, input]);
    }

    /// <summary>Joins the inputs of all ranks in the order of the ranks, and gives each rank its part.</summary>
    /// <param name="output">[n, ...].</param>
    /// <param name="input">[Size * n, ...], of the same shape on all ranks; float32, float64, int32 or int64.</param>
    /// <param name="operation">How to join them.</param>
    /// <exception cref="ArgumentException">The shapes or types don't fit each other.</exception>
    public Work ReduceScatterAsync(Tensor output, Tensor input, ReduceOperation operation = ReduceOperation.Sum)
    {
        CollectiveArguments.RequireSameRows(output, input);
        CollectiveArguments.RequireTimes(input, output, Size, nameof(input));
        return ReduceScatterAsync(output, input, Equal(output.Size(0)), operation);
    }

    /// <summary>Joins the inputs of all ranks in the order of the ranks, and gives each rank its part; the parts may differ in length.</summary>
    /// <param name="output">[<paramref name="rows"/> of this rank, ...]. It may be its own place in <paramref name="input"/>.</param>
    /// <param name="input">[sum of <paramref name="rows"/>, ...], by rank; float32, float64, int32 or int64.</param>
    /// <param name="rows">Of each rank's part, at least 0; the same on all ranks.</param>
    /// <param name="operation">How to join them.</param>
    /// <exception cref="ArgumentException">The shapes, types or rows don't fit each other.</exception>
    public Work ReduceScatterAsync(Tensor output, Tensor input, long[] rows, ReduceOperation operation = ReduceOperation.Sum)
    {
        CollectiveArguments.RequireReducible(input, nameof(input));
        CollectiveArguments.RequireSameRows(output, input);
        CollectiveArguments.RequireSplits(input, rows, Size, nameof(rows));
        CollectiveArguments.RequireRows(output, rows[Rank], nameof(output));
        var bytes = CollectiveArguments.Bytes(input);
        return Start(
            Collective.ReduceScatter,
            bytes,
            tensors => bytes == 0 ? Transfer.Done : StartReduceScatter(tensors[0], tensors[1], InBytes(rows, CollectiveArguments.RowBytes(input)), operation),
            [output, input]);
    }

    /// <summary>Gives every rank the values of <paramref name="root"/>, in place.</summary>
    /// <param name="values">Of the same shape and type on all ranks; any type.</param>
    /// <param name="root">Whose values, in [0, Size).</param>
    /// <exception cref="ArgumentException">The tensor is not contiguous, or there is no such rank.</exception>
    public Work BroadcastAsync(Tensor values, int root)
    {
        CollectiveArguments.RequireContiguous(values, nameof(values));
        if (root < 0 || root >= Size)
        {
            throw new ArgumentException($"group '{Name}' has ranks 0 to {Size - 1}, not {root}", nameof(root));
        }

        var bytes = CollectiveArguments.Bytes(values);
        return Start(
            Collective.Broadcast,
            bytes,
            tensors => bytes == 0 ? Transfer.Done : StartBroadcast(tensors[0].DataPointer, bytes, root),
            [values]);
    }

    /// <summary>Done when every rank has called it.</summary>
    public Work BarrierAsync() => Start(Collective.Barrier, 0, _ => StartBarrier(), []);

    /// <summary>A group of some of this group's members, with connections of its own and the same time-out and trace.</summary>
    /// <param name="ranks">Ranks of this group, this one among them; their order is that of the new ranks. Exactly they call it, with the same list.</param>
    /// <param name="name">For messages.</param>
    /// <exception cref="ArgumentException">A rank is absent, doubled or unknown, or this rank is not in the list.</exception>
    /// <exception cref="CommunicationException">Not all of <paramref name="ranks"/> came within the time-out.</exception>
    public ProcessGroup CreateGroup(IReadOnlyList<int> ranks, string name)
    {
        CollectiveArguments.RequireMembers(ranks, this);
        var path = $"{Name}/{name}";
        if (ranks.Count == 1)
        {
            return new SingleProcessGroup(Timeout, Trace, path, Members[Rank]);
        }

        ThrowIfUnusable();
        var call = Starting = Describe(Collective.CreateGroup, 0);
        var key = $"{path}[{string.Join('-', ranks)}]";
        var repeated = _created[key] = _created.GetValueOrDefault(key) + 1;
        try
        {
            return Create([.. ranks], [.. ranks.Select(rank => Members[rank])], path, $"{key}.{repeated}");
        }
        catch (TransferException e)
        {
            Abandon(call.Failed(new TransferException($"{e.Message} for group '{path}' of ranks {string.Join(", ", ranks)}", e.TimedOut) { Cause = e.Cause }));
            throw _failure!;
        }
    }

    /// <summary>Leaves the group in order: waits until every member is here, then ends the connections. The last call on a world that did well.</summary>
    /// <exception cref="CommunicationException">Not every member came within the time-out.</exception>
    public void Close()
    {
        BarrierAsync().WaitOnHost();
        _disposed = true;
        Release(Departure.Together);
    }

    /// <summary>Ends this rank's part in the group without waiting for the others; those that still want something of it fail.</summary>
    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            if (_failure is null)
            {
                Release(Departure.Alone);
            }
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>Makes the group useless after a failure: peers that still wait for this rank shall notice at once.</summary>
    internal void Abandon(CommunicationException failure)
    {
        if (_failure is null)
        {
            _failure = failure;
            Release(Departure.AfterFailure);
        }
    }

    /// <summary>Sizes in bytes, by rank; both buffers are laid out in the order of the ranks.</summary>
    private protected abstract Transfer StartExchange(nint output, nint input, long[] outputBytes, long[] inputBytes);

    /// <summary><paramref name="bytes"/> of each rank, by rank, not all 0; the input may be its own place in the output.</summary>
    private protected abstract Transfer StartGather(nint output, nint input, long[] bytes);

    private protected abstract Transfer StartBroadcast(nint values, long bytes, int root);

    private protected abstract Transfer StartBarrier();

    /// <summary>In place, and with the same bits on all ranks; never empty.</summary>
    private protected abstract Transfer StartAllReduce(Tensor values, ReduceOperation operation, long bytes);

    /// <param name="output">This rank's part; may be its own place in <paramref name="input"/>, and may be empty.</param>
    /// <param name="input">All parts, not all empty.</param>
    /// <param name="bytes">Of each rank's part.</param>
    /// <param name="operation">How to join them.</param>
    private protected virtual Transfer StartReduceScatter(Tensor output, Tensor input, long[] bytes, ReduceOperation operation)
    {
        var gathered = Tensor.Empty([Size, output.Count], output.DType).Detached();
        return new ChainedTransfer(
            StartExchange(gathered.DataPointer, input.DataPointer, Equal(bytes[Rank]), bytes),
            () => OrderedReduction.Into(output.DataPointer, gathered, operation));
    }

    /// <param name="ranks">Several, this one among them.</param>
    /// <param name="members">Their world ranks.</param>
    /// <param name="name">For messages.</param>
    /// <param name="key">The same on exactly the members, and never used before.</param>
    private protected abstract ProcessGroup Create(int[] ranks, int[] members, string name, string key);

    /// <summary>Gives native resources back; called once.</summary>
    private protected abstract void Release(Departure departure);

    /// <summary>One round in which everyone gets everything and joins it in the order of the ranks: the quickest way for small tensors.</summary>
    private protected Transfer StartGatheredReduce(Tensor values, ReduceOperation operation, long bytes)
    {
        var gathered = Tensor.Empty([Size, values.Count], values.DType).Detached();
        return new ChainedTransfer(
            StartGather(gathered.DataPointer, values.DataPointer, Equal(bytes)),
            () => OrderedReduction.Into(values.DataPointer, gathered, operation));
    }

    /// <summary>The same number for each rank.</summary>
    private protected long[] Equal(long value)
    {
        var values = new long[Size];
        Array.Fill(values, value);
        return values;
    }

    private static long[] InBytes(long[] rows, long rowBytes) => Array.ConvertAll(rows, count => count * rowBytes);

    private CollectiveCall Describe(Collective collective, long bytes, long[]? outputRows = null, long[]? inputRows = null) => new(
        this, collective, Trace.Started(collective, bytes), Trace.Step, Trace.Layer, Trace.Phase, bytes, outputRows, inputRows);

    private Work Start(
        Collective collective,
        long bytes,
        Func<Tensor[], Transfer> start,
        Tensor[] tensors,
        long[]? outputRows = null,
        long[]? inputRows = null)
    {
        ThrowIfUnusable();
        var call = Starting = Describe(collective, bytes, outputRows, inputRows);
        var isStaged = Array.Exists(tensors, tensor => tensor.Device != MemoryDevice);
        var kept = Array.ConvertAll(tensors, tensor => (isStaged ? Staged(tensor) : tensor.Share()).Detached());
        try
        {
            return new Work(call, isStaged ? BackInPlace(start(kept), kept[0], tensors[0]) : start(kept), kept);
        }
        catch (TransferException e)
        {
            Abandon(call.Failed(e));
            throw _failure!;
        }
    }

    private Tensor Staged(Tensor tensor)
    {
        using var mode = Autograd.NoGrad();
        return tensor.Device == MemoryDevice ? tensor.Clone() : tensor.To(MemoryDevice);
    }

    // The first tensor of every operation is the one that it writes.
    private static SettledTransfer BackInPlace(Transfer transfer, Tensor arrived, Tensor output)
    {
        var target = output.Detach().Detached();
        return new SettledTransfer(transfer, () =>
        {
            using var mode = Autograd.NoGrad();
            target.CopyFrom_(arrived);
            target.Dispose();
        });
    }

    private void ThrowIfUnusable()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_failure is not null)
        {
            throw new CommunicationException($"{Backend} group '{Name}' is of no more use since an earlier failure: {_failure.Message}")
            {
                Rank = Members[Rank],
                Group = Name,
                Step = Trace.Step,
                Layer = Trace.Layer,
                Operation = _failure.Operation,
                TimedOut = _failure.TimedOut,
            };
        }
    }
}

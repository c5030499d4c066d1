using System.Diagnostics;
using Moe.Torch;

namespace Moe.Distributed.Nccl;

/// <summary>Calls of NCCL within <see cref="NcclCommunicator.Start"/>.</summary>
internal delegate void NcclCalls(nint communicator, nint stream);

/// <summary>One communicator of NCCL with a stream of its own, on which its operations follow one another.</summary>
/// <remarks>
/// An operation begins when the work that the current stream has by then is done. The tensors of an operation must live until it is done,
/// or until the stream that they were made on has been told to wait for it.
/// </remarks>
internal sealed class NcclCommunicator : IDisposable
{
    private static readonly TimeSpan LeavingTime = TimeSpan.FromSeconds(1);

    private readonly Lock _gate = new();
    private readonly Queue<NcclOperation> _running = new();
    private readonly Stack<(CudaEvent Begin, CudaEvent End)> _spare = new();
    private readonly CudaStream _stream = new();
    private readonly CudaEvent _ready = new();
    private readonly TimeSpan _timeout;
    private nint _handle;
    private CollectiveCall? _calling;
    private long _calledAt;

    /// <param name="session">Of the process.</param>
    /// <param name="key">Name in the store: the same on all members, and that of no other communicator.</param>
    /// <param name="members">World ranks of the members.</param>
    /// <param name="timeout">The longest that one operation may take.</param>
    public NcclCommunicator(NcclSession session, string key, int[] members, TimeSpan timeout)
    {
        Session = session;
        Key = key;
        Members = members;
        _timeout = timeout;
    }

    public NcclSession Session { get; }

    public string Key { get; }

    public int[] Members { get; }

    /// <summary>Operations that were started.</summary>
    public long Started { get; private set; }

    /// <summary>Joins the other members, who are known to have come. NCCL may hang in it if one leaves just now, so that it counts as an operation.</summary>
    public void Join(NcclUniqueId id, int rank, CollectiveCall call)
    {
        Enter(call);
        try
        {
            NcclAbi.Check(NcclAbi.Join(out _handle, Members.Length, id, rank));
        }
        finally
        {
            Leave(null);
        }

        Session.ThrowIfFailed();
    }

    /// <summary>Has the calls run on the communicator's stream, behind the work of the current stream.</summary>
    /// <param name="call">For messages.</param>
    /// <param name="calls">Of NCCL; all of them count as one operation.</param>
    public NcclOperation Start(CollectiveCall call, NcclCalls calls)
    {
        Settle();
        Enter(call);
        NcclOperation? started = null;
        try
        {
            var operation = new NcclOperation(this, call, _spare.TryPop(out var events) ? events : (new CudaEvent(), new CudaEvent()));
            _ready.Record();
            _ready.AwaitOn(_stream);
            operation.Events.Begin.RecordOn(_stream);
            Together(calls);
            operation.Events.End.RecordOn(_stream);
            started = operation;
        }
        catch (TransferException) when (Session.Failure is not null)
        {
            // NCCL only says that it was aborted; the session knows why.
        }
        finally
        {
            Leave(started);
        }

        Session.ThrowIfFailed();
        return started!;
    }

    /// <summary>Counts the time of operations that are done, and takes their events for the next ones. On the thread that starts them.</summary>
    public void Settle()
    {
        if (Session.Failure is not null)
        {
            return;
        }

        lock (_gate)
        {
            while (_running.TryPeek(out var first) && first.IsDone)
            {
                Session.Trace.Waited(first.Call.Collective, first.Events.Begin.Until(first.Events.End));
                if (first.IsRecorded)
                {
                    Spans.AddBeside(first.Call.Operation, first.Call.Phase, first.Call.Layer, first.Call.Bytes, first.Events.Begin, first.Events.End);
                }

                _spare.Push(first.Events);
                _running.Dequeue();
            }
        }
    }

    /// <summary>Looks for an operation that failed or took too long. On the watchdog's thread.</summary>
    public (CollectiveCall Call, TransferException Failure)? Examine()
    {
        lock (_gate)
        {
            if (_calling is not null && Stopwatch.GetElapsedTime(_calledAt) > _timeout)
            {
                return (_calling, new TransferException("", timedOut: true));
            }

            var open = _running.FirstOrDefault(operation => !operation.IsDone);
            if (_handle != 0 && NcclAbi.GetAsyncError(_handle, out var error) == NcclAbi.Success && error is not (NcclAbi.Success or NcclAbi.InProgress)
                && (open?.Call ?? _calling) is { } broken)
            {
                return (broken, new TransferException(NcclAbi.Describe(error, _handle)));
            }

            if (open is null || !open.Events.Begin.IsDone)
            {
                return null;
            }

            open.BegunAt ??= Stopwatch.GetTimestamp();
            return Stopwatch.GetElapsedTime(open.BegunAt.Value) > _timeout ? (open.Call, new TransferException("", timedOut: true)) : null;
        }
    }

    /// <summary>Ends all operations, also those that run on the device, and gives the communicator up. Waits for nobody; the session has its failure, or is over.</summary>
    public void Abort()
    {
        // Whoever is just calling NCCL is let out first; who is stuck there is freed by the abort itself.
        var begin = Stopwatch.GetTimestamp();
        while (IsCalling && Stopwatch.GetElapsedTime(begin) < LeavingTime)
        {
            Thread.Sleep(1);
        }

        nint handle;
        lock (_gate)
        {
            (handle, _handle) = (_handle, 0);
        }

        if (handle != 0)
        {
            _ = NcclAbi.Abort(handle); // there is nothing left to do about an error
        }
    }

    /// <summary><see cref="Abort"/>, and frees the stream and its events. Only when nothing of it runs any more and no operation is to be waited for.</summary>
    public void Dispose()
    {
        Settle();
        Abort();
        foreach (var (begin, end) in _spare.Concat(_running.Select(operation => operation.Events)))
        {
            begin.Dispose();
            end.Dispose();
        }

        _ready.Dispose();
        _stream.Dispose();
    }

    private bool IsCalling
    {
        get
        {
            lock (_gate)
            {
                return _calling is not null;
            }
        }
    }

    // One group for all calls: grouped sends and receives run at once.
    private void Together(NcclCalls calls)
    {
        NcclAbi.Check(NcclAbi.GroupStart());
        try
        {
            calls(_handle, _stream.Handle);
        }
        catch (TransferException)
        {
            _ = NcclAbi.GroupEnd(); // what failed within the group is what counts
            throw;
        }

        NcclAbi.Check(NcclAbi.GroupEnd(), _handle);
    }

    private void Enter(CollectiveCall call)
    {
        lock (_gate)
        {
            Session.ThrowIfFailed();
            (_calling, _calledAt) = (call, Stopwatch.GetTimestamp());
            Started++;
        }

        Session.LastStarted = call;
    }

    private void Leave(NcclOperation? started)
    {
        lock (_gate)
        {
            _calling = null;
            if (started is not null)
            {
                _running.Enqueue(started);
            }
        }
    }
}

using System.Diagnostics;
using Moe.Torch;

namespace Moe.Distributed.Nccl;

/// <summary>An operation on the stream of a communicator, between two events. Waiting for it makes the current stream wait; the host goes on.</summary>
/// <param name="communicator">Where it runs.</param>
/// <param name="call">What it is.</param>
/// <param name="events">Before and after it; they go back to the communicator once it is done.</param>
internal sealed class NcclOperation(NcclCommunicator communicator, CollectiveCall call, (CudaEvent Begin, CudaEvent End) events) : Transfer
{
    // A short operation is waited for closely; a rank that waits for long leaves its core to others.
    private static readonly TimeSpan Close = TimeSpan.FromMilliseconds(20);

    private volatile bool _isDone;

    public CollectiveCall Call => call;

    public (CudaEvent Begin, CudaEvent End) Events => events;

    /// <summary>Whether spans were kept when it was started.</summary>
    public bool IsRecorded { get; } = Spans.IsOn;

    /// <summary>When the device was first seen to have come to it (<see cref="Stopwatch.GetTimestamp"/>); null before.</summary>
    public long? BegunAt { get; set; }

    /// <summary>Whether the device is done with it, or was freed of it after a failure.</summary>
    public bool IsDone => _isDone || (_isDone = events.End.IsDone);

    public override bool IsTimedByDevice => true;

    public override bool Test()
    {
        var done = IsDone;
        communicator.Session.ThrowIfFailed(); // after a look at the event: an operation that was given up counts as done
        return done;
    }

    // The time-out is the watchdog's, which knows when the device came to the operation.
    public override void Wait(TimeSpan timeout)
    {
        if (!Test())
        {
            events.End.Await();
        }
    }

    public override void WaitOnHost(TimeSpan timeout)
    {
        var begin = Stopwatch.GetTimestamp();
        while (!Test())
        {
            if (Stopwatch.GetElapsedTime(begin) > Close)
            {
                Thread.Sleep(1);
            }
            else
            {
                Thread.Yield();
            }
        }
    }
}

using System.Diagnostics;
using Moe.Torch;

namespace Moe.Distributed.Nccl;

/// <summary>
/// The thread of a session that watches what runs on the device: asks NCCL for errors, measures how long operations take, and after a failure gives up
/// every communicator, so that a thread which waits for the device comes back.
/// </summary>
internal sealed class NcclWatchdog : IDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan AnswerInterval = TimeSpan.FromMilliseconds(250);

    // How long giving up may take, and then the thread that works with the groups to notice.
    private static readonly TimeSpan AbortTime = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan NoticeTime = TimeSpan.FromSeconds(5);

    private readonly NcclSession _session;
    private readonly AutoResetEvent _wake = new(initialState: false);
    private readonly Thread _thread;
    private volatile bool _isOver;

    public NcclWatchdog(NcclSession session)
    {
        _session = session;
        _thread = new Thread(Watch) { Name = "nccl watchdog", IsBackground = true };
        _thread.Start();
    }

    public void Wake() => _wake.Set();

    public void Dispose()
    {
        _isOver = true;
        _wake.Set();
        _thread.Join();
        _wake.Dispose();
    }

    private void Watch()
    {
        var answered = Stopwatch.GetTimestamp();
        while (_session.Failure is null)
        {
            _wake.WaitOne(Interval);
            if (_isOver)
            {
                return;
            }

            try
            {
                CudaRuntime.Use(_session.Device); // or the first look at an event would set up device 0
                Examine();
                if (Stopwatch.GetElapsedTime(answered) > AnswerInterval)
                {
                    answered = Stopwatch.GetTimestamp();
                    _session.AnswerIfAsked();
                }
            }
            catch (TorchException e)
            {
                _session.Fail(new CommunicationException($"the device failed under the communication: {e.Message}"), isAnswered: false);
            }
            catch (TransferException)
            {
                // The store is gone, and with it whoever would read an answer.
            }
        }

        GiveUp(_session.Failure);
    }

    private void Examine()
    {
        foreach (var communicator in _session.Communicators)
        {
            if (_session.Failure is null && communicator.Examine() is var (call, failure))
            {
                var blame = _session.Blame(communicator);
                var text = string.Join("; ", new[] { failure.Message, blame }.Where(part => part.Length > 0));
                _session.Fail(call.Failed(new TransferException(text, failure.TimedOut)), isAnswered: false);
            }
        }
    }

    private void GiveUp(CommunicationException failure)
    {
        Thread[] aborts = [.. _session.Communicators.Select(communicator => new Thread(() =>
        {
            UseDevice();
            communicator.Abort();
        })
        { Name = "nccl abort", IsBackground = true })];
        Array.ForEach(aborts, thread => thread.Start());
        Await(AbortTime, () => Array.TrueForAll(aborts, thread => !thread.IsAlive));
        if (!Await(NoticeTime, () => _session.IsAnswered))
        {
            _session.Trace.GiveUp(failure);
        }
    }

    // A device that failed may not even be chosen any more; what can be given up without it is given up all the same.
    private void UseDevice()
    {
        try
        {
            CudaRuntime.Use(_session.Device);
        }
        catch (TorchException)
        {
            // Its failure is known.
        }
    }

    private bool Await(TimeSpan time, Func<bool> isTrue)
    {
        var begin = Stopwatch.GetTimestamp();
        while (!isTrue() && !_isOver && Stopwatch.GetElapsedTime(begin) < time)
        {
            Thread.Sleep(10);
        }

        return isTrue() || _isOver;
    }
}

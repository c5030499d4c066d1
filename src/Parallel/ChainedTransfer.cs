using System.Diagnostics;

namespace Moe.Distributed;

/// <summary>A transfer followed by what can only begin when it is done: local work, and perhaps a further transfer.</summary>
/// <param name="first">Already started.</param>
/// <param name="next">Run once, when <paramref name="first"/> is done.</param>
internal sealed class ChainedTransfer(Transfer first, Func<Transfer> next) : Transfer
{
    private Transfer _current = first;
    private bool _continued;

    public override bool IsTimedByDevice => _current.IsTimedByDevice;

    public override bool Test()
    {
        while (_current.Test())
        {
            if (_continued)
            {
                return true;
            }

            Continue();
        }

        return false;
    }

    public override void Wait(TimeSpan timeout) => Wait(timeout, (transfer, left) => transfer.Wait(left));

    public override void WaitOnHost(TimeSpan timeout) => Wait(timeout, (transfer, left) => transfer.WaitOnHost(left));

    private void Wait(TimeSpan timeout, Action<Transfer, TimeSpan> wait)
    {
        var begin = Stopwatch.GetTimestamp();
        wait(_current, timeout);
        if (!_continued)
        {
            Continue();
            var left = timeout - Stopwatch.GetElapsedTime(begin);
            wait(_current, left > TimeSpan.Zero ? left : TimeSpan.Zero);
        }
    }

    private void Continue()
    {
        _continued = true;
        _current = next();
    }
}

using System.Diagnostics;

namespace Moe.Distributed;

/// <summary>Transfers that were started together and count as one.</summary>
/// <param name="parts">In the order of their start.</param>
internal sealed class JoinedTransfer(IReadOnlyList<Transfer> parts) : Transfer
{
    private int _done;

    public override bool Test()
    {
        while (_done < parts.Count && parts[_done].Test())
        {
            _done++;
        }

        return _done == parts.Count;
    }

    public override void Wait(TimeSpan timeout)
    {
        var begin = Stopwatch.GetTimestamp();
        for (; _done < parts.Count; _done++)
        {
            var left = timeout - Stopwatch.GetElapsedTime(begin);
            parts[_done].Wait(left > TimeSpan.Zero ? left : TimeSpan.Zero);
        }
    }
}

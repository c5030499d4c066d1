namespace Moe.Distributed;

/// <summary>A transfer whose end the host always waits for, and what it does then.</summary>
/// <param name="transfer">Already started.</param>
/// <param name="then">Run once, when <paramref name="transfer"/> is done.</param>
internal sealed class SettledTransfer(Transfer transfer, Action? then = null) : Transfer
{
    public override bool IsTimedByDevice => transfer.IsTimedByDevice;

    public override bool Test()
    {
        var done = transfer.Test();
        if (done)
        {
            then?.Invoke();
        }

        return done;
    }

    public override void Wait(TimeSpan timeout)
    {
        transfer.WaitOnHost(timeout);
        then?.Invoke();
    }
}

using System.Diagnostics;

namespace Moe.Distributed.Gloo;

/// <summary>An operation in the queue of a Gloo group, whose own thread carries it out.</summary>
/// <param name="handle">The native work, owned from here on.</param>
internal sealed class GlooTransfer(nint handle) : Transfer
{
    private readonly long _begun = Stopwatch.GetTimestamp();

    public override bool Test()
    {
        var status = C10dAbi.Test(handle, out var done);
        return (done != 0 || status != 0) && Finish(status, IsTimeout);
    }

    // The group's time-out ends the operation natively.
    public override void Wait(TimeSpan timeout)
    {
        // A connection may break just because the time is up. Of what had failed before anybody waited, the clock says nothing.
        if (!Test())
        {
            Finish(C10dAbi.Wait(handle), message => Stopwatch.GetElapsedTime(_begun) >= timeout || IsTimeout(message));
        }
    }

    /// <summary>Whether a message is of a time-out, for which c10d and Gloo have several words.</summary>
    internal static bool IsTimeout(string message) =>
        message.Contains("timed out", StringComparison.OrdinalIgnoreCase) || message.Contains("timeout", StringComparison.OrdinalIgnoreCase);

    private bool Finish(int status, Func<string, bool> isTimeout)
    {
        try
        {
            C10dAbi.Check(status);
            return true;
        }
        catch (TransferException e) when (isTimeout(e.Message))
        {
            throw new TransferException(e.Message, timedOut: true);
        }
        finally
        {
            C10dAbi.Check(C10dAbi.FreeWork(handle));
        }
    }
}

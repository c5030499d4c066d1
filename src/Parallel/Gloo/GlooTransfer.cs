namespace Moe.Distributed.Gloo;

/// <summary>An operation in the queue of a Gloo group, whose own thread carries it out.</summary>
/// <param name="handle">The native work, owned from here on.</param>
internal sealed class GlooTransfer(nint handle) : Transfer
{
    public override bool Test()
    {
        var status = C10dAbi.Test(handle, out var done);
        return (done != 0 || status != 0) && Finish(status);
    }

    // The group's time-out ends the operation natively.
    public override void Wait(TimeSpan timeout) => Finish(C10dAbi.Wait(handle));

    private bool Finish(int status)
    {
        try
        {
            C10dAbi.Check(status);
            return true;
        }
        catch (TransferException e) when (e.Message.Contains("Timed out", StringComparison.Ordinal))
        {
            throw new TransferException(e.Message, timedOut: true);
        }
        finally
        {
            C10dAbi.Check(C10dAbi.FreeWork(handle));
        }
    }
}

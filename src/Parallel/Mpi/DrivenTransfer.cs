namespace Moe.Distributed.Mpi;

/// <summary>
/// A transfer of several rounds. Its peers may wait for this rank's next round while this rank waits for something else, so it is
/// advanced then too; whoever waits for it learns how it ended.
/// </summary>
internal sealed class DrivenTransfer(Transfer transfer, MpiSession session) : Transfer
{
    private bool _done;
    private TransferException? _failure;

    /// <summary>Goes on if it can; keeps a failure for the one who asks.</summary>
    public void Advance()
    {
        try
        {
            _done = _done || (_failure is null && transfer.Test());
        }
        catch (TransferException e)
        {
            _failure = e;
        }
    }

    public override bool Test()
    {
        Advance();
        if (_done || _failure is not null)
        {
            session.Leave(this);
        }

        return _failure is null ? _done : throw _failure;
    }

    public override void Wait(TimeSpan timeout)
    {
        session.Leave(this); // waiting drives it
        if (_failure is not null)
        {
            throw _failure;
        }

        if (!_done)
        {
            transfer.Wait(timeout);
        }
    }
}

namespace Moe.Distributed.Mpi;

/// <summary>What all groups of a process share, as MPI starts, fails and ends once a process.</summary>
/// <param name="tagLimit">The largest tag of a message.</param>
internal sealed class MpiSession(int tagLimit)
{
    private readonly List<DrivenTransfer> _driven = [];

    public int TagLimit => tagLimit;

    /// <summary>MPI was left, or failed: from then on it is not called any more.</summary>
    public bool IsOver { get; set; }

    /// <summary>Whether there are transfers that a rank has to see to while it waits for another one.</summary>
    public bool HasDriven => _driven.Count > 0;

    /// <summary>Lets a transfer of several rounds go on whenever this rank waits for anything.</summary>
    public DrivenTransfer Drive(Transfer transfer)
    {
        var driven = new DrivenTransfer(transfer, this);
        _driven.Add(driven);
        return driven;
    }

    public void Leave(DrivenTransfer transfer) => _driven.Remove(transfer);

    public void Advance()
    {
        for (var i = _driven.Count - 1; i >= 0; i--)
        {
            _driven[i].Advance();
        }
    }
}

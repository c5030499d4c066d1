namespace Moe.Distributed;

/// <summary>
/// Where the training loop stands, for the messages of failed collectives, and what the collectives have cost. One instance serves
/// all groups of a process; the loop sets <see cref="Step"/>, <see cref="Layer"/> and <see cref="Phase"/> as it goes.
/// </summary>
public sealed class CollectiveTrace
{
    private readonly CollectiveTotals[] _totals = new CollectiveTotals[Enum.GetValues<Collective>().Length];
    private volatile CommunicationException? _failure;

    /// <summary>
    /// Raised on a thread of a group's own: an operation failed, and the thread that waits for the device or for the transport did not come back within seconds, though
    /// all was done to free it. What is left is to report and to end the process.
    /// </summary>
    public event Action<CommunicationException>? Unanswered;

    /// <summary>Raised before totals are read or reset: time on a device is known only when the device has come so far.</summary>
    internal event Action? Settling;

    /// <summary>The optimizer step under way; null outside the loop.</summary>
    public long? Step { get; set; }

    /// <summary>The transformer layer under way, from 0; null outside the layers.</summary>
    public int? Layer { get; set; }

    /// <summary>What the communication is for, as in <c>dispatch</c> or <c>gradients</c>; may be empty.</summary>
    public string Phase { get; set; } = "";

    /// <summary>Number of collectives that this process has started, over all groups.</summary>
    public long Sequence { get; private set; }

    /// <summary>The first failure that a group noticed by itself; null while there is none. Whatever goes wrong after it is its effect.</summary>
    public CommunicationException? Failure => _failure;

    /// <summary>What the collectives of one kind have cost since the last <see cref="ResetTotals"/>.</summary>
    public CollectiveTotals Totals(Collective collective)
    {
        Settling?.Invoke();
        return _totals[(int)collective];
    }

    /// <summary>Sets the totals of every kind to zero.</summary>
    public void ResetTotals()
    {
        Settling?.Invoke();
        Array.Clear(_totals);
    }

    internal void Failed(CommunicationException failure) => _failure ??= failure;

    internal void GiveUp(CommunicationException failure) => Unanswered?.Invoke(failure);

    internal long Started(Collective collective, long bytes)
    {
        ref var totals = ref _totals[(int)collective];
        totals = totals with { Calls = totals.Calls + 1, Bytes = totals.Bytes + bytes };
        return ++Sequence;
    }

    internal void Waited(Collective collective, TimeSpan time)
    {
        ref var totals = ref _totals[(int)collective];
        totals = totals with { Waited = totals.Waited + time };
    }
}

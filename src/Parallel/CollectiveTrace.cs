namespace Moe.Distributed;

/// <summary>
/// Where the training loop stands, for the messages of failed collectives, and what the collectives have cost. One instance serves
/// all groups of a process; the loop sets <see cref="Step"/>, <see cref="Layer"/> and <see cref="Phase"/> as it goes.
/// </summary>
public sealed class CollectiveTrace
{
    private readonly CollectiveTotals[] _totals = new CollectiveTotals[Enum.GetValues<Collective>().Length];

    /// <summary>The optimizer step under way; null outside the loop.</summary>
    public long? Step { get; set; }

    /// <summary>The transformer layer under way, from 0; null outside the layers.</summary>
    public int? Layer { get; set; }

    /// <summary>What the communication is for, as in <c>dispatch</c> or <c>gradients</c>; may be empty.</summary>
    public string Phase { get; set; } = "";

    /// <summary>Number of collectives that this process has started, over all groups.</summary>
    public long Sequence { get; private set; }

    /// <summary>What the collectives of one kind have cost since the last <see cref="ResetTotals"/>.</summary>
    public CollectiveTotals Totals(Collective collective) => _totals[(int)collective];

    /// <summary>Sets the totals of every kind to zero.</summary>
    public void ResetTotals() => Array.Clear(_totals);

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

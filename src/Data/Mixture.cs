namespace Moe.Data;

/// <summary>Deals sample indices to domains: of every <see cref="Period"/> consecutive samples, each domain gets exactly its share.</summary>
internal sealed class Mixture
{
    /// <summary>Samples after which the pattern repeats; shares are multiples of 1 / Period.</summary>
    public const int Period = 4096;

    private readonly int[] _shares; // [domains], sums to Period
    private readonly int[] _domains = new int[Period]; // of each slot
    private readonly int[] _ranks = new int[Period]; // of each slot among its domain's

    /// <param name="weights">Above 0 and finite.</param>
    /// <param name="key">Decides the order of the slots.</param>
    public Mixture(IReadOnlyList<double> weights, ulong key)
    {
        _shares = Apportion(weights);
        var slots = _shares.SelectMany((share, domain) => Enumerable.Repeat(domain, share)).ToArray();
        var order = new Permutation(Period, key);
        var dealt = new int[_shares.Length];
        for (var slot = 0; slot < Period; slot++)
        {
            var domain = slots[order[slot]];
            _domains[slot] = domain;
            _ranks[slot] = dealt[domain]++;
        }
    }

    /// <summary>Slots of each domain per period.</summary>
    public IReadOnlyList<int> Shares => _shares;

    /// <summary>The domain of a sample, and how many earlier samples that domain has had.</summary>
    public (int Domain, long Ordinal) this[long sample]
    {
        get
        {
            var (period, slot) = long.DivRem(sample, Period);
            var domain = _domains[slot];
            return (domain, period * _shares[domain] + _ranks[slot]);
        }
    }

    // Largest remainders (Hamilton's method): each share is its exact quota rounded down or up, and the sum is exact.
    // The sort is stable: ties go to the earlier domain.
    private static int[] Apportion(IReadOnlyList<double> weights)
    {
        var largest = weights.Max(); // scaled by it, the sum of finite weights is finite
        var total = weights.Sum(weight => weight / largest);
        var quotas = weights.Select(weight => weight / largest / total * Period).ToArray();
        var shares = quotas.Select(quota => (int)quota).ToArray();
        var byRemainder = Enumerable.Range(0, shares.Length).OrderByDescending(domain => quotas[domain] - shares[domain]);
        foreach (var domain in byRemainder.Take(Period - shares.Sum()))
        {
            shares[domain]++;
        }

        return shares;
    }
}

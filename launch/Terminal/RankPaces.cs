using Moe.Training;

namespace Moe.Launch.Terminal;

/// <summary>Which ranks the others wait for: those that work longer on their share of a step than the median rank.</summary>
/// <remarks>All ranks have the same step time, since each step they wait for each other; what tells them apart is the time that they do not wait.</remarks>
internal sealed class RankPaces
{
    // A single row swings with whatever else the machine does.
    private const double NewShare = 0.3;
    private const double Threshold = 0.05;

    private double[] _busy = [];

    /// <summary>Smoothed working time of each rank, milliseconds a step; empty before the first row.</summary>
    public IReadOnlyList<double> Pace => _busy;

    /// <summary>Takes in a row.</summary>
    /// <param name="ranks">By <see cref="RankMeter"/>'s keys, each [ranks].</param>
    public void Add(IReadOnlyDictionary<string, double[]> ranks)
    {
        if (ranks.TryGetValue(RankMeter.BusyTime, out var busy))
        {
            _busy = _busy.Length != busy.Length ? [.. busy] : [.. _busy.Zip(busy, (before, now) => ((1 - NewShare) * before) + (NewShare * now))];
        }
    }

    /// <summary>Ranks that are slower than the median by more than 5 %, the slowest first, each with its excess as a fraction.</summary>
    public IReadOnlyList<(int Rank, double Excess)> Slow()
    {
        var median = Median();
        return median <= 0 ? [] : [.. _busy
            .Select((busy, rank) => (Rank: rank, Excess: (busy / median) - 1))
            .Where(rank => rank.Excess > Threshold)
            .OrderByDescending(rank => rank.Excess)];
    }

    private double Median()
    {
        var sorted = _busy.Order().ToList();
        return sorted.Count == 0 ? 0 : (sorted[(sorted.Count - 1) / 2] + sorted[sorted.Count / 2]) / 2;
    }
}

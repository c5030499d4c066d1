namespace Moe.Launch.Sweeps;

/// <summary>From points to groups: mean and spread over seeds, the best first.</summary>
internal static class SweepResults
{
    /// <summary>Groups of finished points that have the metric; a mean that is no number comes last.</summary>
    public static IReadOnlyList<GroupResult> Of(IEnumerable<PointRecord> points, bool maximize)
    {
        var groups = points
            .Where(point => point is { Status: PointStatus.Done, Value: not null })
            .GroupBy(point => point.Group)
            .Select(group => Of(group.Key, [.. group.Select(point => point.Value!.Value)]));
        return [.. groups.OrderBy(group => double.IsNaN(group.Mean)).ThenBy(group => maximize ? -group.Mean : group.Mean)];
    }

    private static GroupResult Of(string group, double[] values)
    {
        var mean = values.Average();
        double? deviation = values.Length < 2 ? null : Math.Sqrt(values.Sum(value => (value - mean) * (value - mean)) / (values.Length - 1));
        return new GroupResult(group, values.Length, mean, deviation, values.Min(), values.Max());
    }
}

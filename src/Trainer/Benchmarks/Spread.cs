namespace Moe.Training.Benchmarks;

/// <summary>A measured quantity over repetitions; what lies between two of them is interpolated.</summary>
/// <param name="Median">Half of the repetitions are below.</param>
/// <param name="Low">A tenth is below.</param>
/// <param name="High">A tenth is above.</param>
internal readonly record struct Spread(double Median, double Low, double High)
{
    /// <summary>Of at least one measurement.</summary>
    public static Spread Of(IEnumerable<double> measurements)
    {
        var sorted = measurements.Order().ToArray();
        return new Spread(At(0.5), At(0.1), At(0.9));

        double At(double share)
        {
            var place = share * (sorted.Length - 1);
            var (below, above) = ((int)Math.Floor(place), (int)Math.Ceiling(place));
            return double.Lerp(sorted[below], sorted[above], place - below);
        }
    }
}

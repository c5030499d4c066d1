namespace Moe.Training.Benchmarks;

/// <summary>A measured quantity over repetitions.</summary>
/// <param name="Median">Half of the repetitions are below.</param>
/// <param name="Low">A tenth is below.</param>
/// <param name="High">A tenth is above.</param>
internal readonly record struct Spread(double Median, double Low, double High)
{
    /// <summary>Of at least one measurement.</summary>
    public static Spread Of(IEnumerable<double> measurements)
    {
        var sorted = measurements.Order().ToArray();
        double At(double share) => sorted[(int)Math.Round(share * (sorted.Length - 1))];
        return new Spread(At(0.5), At(0.1), At(0.9));
    }
}

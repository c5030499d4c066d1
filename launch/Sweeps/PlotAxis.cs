using System.Globalization;

namespace Moe.Launch.Sweeps;

/// <summary>Where a value lies along one side of a panel.</summary>
/// <param name="Low">Value at the beginning.</param>
/// <param name="High">Value at the end, above <paramref name="Low"/>.</param>
/// <param name="IsLogarithmic">Whether equal ratios are equally far apart; then both are above 0.</param>
internal sealed record PlotAxis(double Low, double High, bool IsLogarithmic = false)
{
    private const double WorthLogarithm = 5;
    private static readonly double[] RoundDigits = [1, 2, 5, 10];

    /// <summary>An axis around all values, with some room at both ends.</summary>
    /// <param name="values">Those that are finite count.</param>
    /// <param name="mayBeLogarithmic">Whether values that span a large ratio are laid out by ratio.</param>
    public static PlotAxis Around(IEnumerable<double> values, bool mayBeLogarithmic = false)
    {
        var finite = values.Where(double.IsFinite).DefaultIfEmpty(0).ToList();
        var (low, high) = (finite.Min(), finite.Max());
        if (mayBeLogarithmic && low > 0 && high / low >= WorthLogarithm)
        {
            var room = Math.Pow(high / low, 0.06);
            return new PlotAxis(low / room, high * room, IsLogarithmic: true);
        }

        var margin = high > low ? 0.06 * (high - low) : Math.Max(Math.Abs(high) * 0.1, 0.5);
        return new PlotAxis(low - margin, high + margin);
    }

    /// <summary>From 0 at the beginning to 1 at the end; what lies outside is drawn at the end.</summary>
    public double Place(double value) => Math.Clamp(
        IsLogarithmic ? Math.Log(value / Low) / Math.Log(High / Low) : (value - Low) / (High - Low), 0, 1);

    /// <summary>About five round values between the ends.</summary>
    public IEnumerable<double> Ticks()
    {
        if (IsLogarithmic)
        {
            for (var power = Math.Floor(Math.Log10(Low)); power <= Math.Log10(High); power++)
            {
                foreach (var tick in RoundDigits[..3].Select(digit => digit * Math.Pow(10, power)).Where(tick => tick >= Low && tick <= High))
                {
                    yield return tick;
                }
            }

            yield break;
        }

        var raw = (High - Low) / 5;
        var unit = Math.Pow(10, Math.Floor(Math.Log10(raw)));
        var step = RoundDigits.Select(factor => factor * unit).First(candidate => candidate >= raw);
        for (var tick = Math.Ceiling(Low / step) * step; tick <= High; tick += step)
        {
            yield return Math.Abs(tick) < step / 1000 ? 0 : tick;
        }
    }

    /// <summary>A tick in words.</summary>
    public static string Text(double tick) => tick.ToString(Math.Abs(tick) is >= 1e5 or (> 0 and < 1e-3) ? "0.#e+0" : "G5", CultureInfo.InvariantCulture);
}

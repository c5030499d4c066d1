namespace Moe.Launch.Terminal;

/// <summary>Numbers as a row of blocks, one character a number.</summary>
internal static class Sparkline
{
    /// <summary>Draws values between two limits; what lies outside is drawn at the limit, what is no number as a space.</summary>
    /// <param name="values">The numbers.</param>
    /// <param name="low">Value of the lowest block.</param>
    /// <param name="high">Value of the highest block, above <paramref name="low"/>; where it is not, all are drawn in the middle.</param>
    /// <param name="glyphs">The blocks to draw with.</param>
    public static string Draw(IEnumerable<double> values, double low, double high, Glyphs glyphs) => string.Concat(values.Select(value =>
    {
        if (!double.IsFinite(value))
        {
            return ' ';
        }

        var share = high > low ? Math.Clamp((value - low) / (high - low), 0, 1) : 0.5;
        return glyphs.Blocks[(int)Math.Round(share * (glyphs.Blocks.Length - 1))];
    }));

    /// <summary>Takes as many values as fit, each the mean of its neighbours.</summary>
    public static IReadOnlyList<double> Shrink(IReadOnlyList<double> values, int width)
    {
        if (values.Count <= width)
        {
            return values;
        }

        return [.. Enumerable.Range(0, width).Select(i =>
        {
            var start = (int)((long)i * values.Count / width);
            var end = (int)((long)(i + 1) * values.Count / width);
            return values.Skip(start).Take(end - start).Average();
        })];
    }
}

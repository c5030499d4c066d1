using System.Globalization;

namespace Moe.Training.Configuration;

/// <summary>Sizes of memory as people write them: <c>60GiB</c>, <c>1.5 GB</c>.</summary>
public static class ByteSize
{
    private const double Kibi = 1024;
    private const double Kilo = 1000;

    private static readonly (string Unit, double Bytes)[] Units =
    [
        ("KiB", Kibi), ("MiB", Kibi * Kibi), ("GiB", Kibi * Kibi * Kibi), ("TiB", Kibi * Kibi * Kibi * Kibi),
        ("KB", Kilo), ("MB", Kilo * Kilo), ("GB", Kilo * Kilo * Kilo), ("TB", Kilo * Kilo * Kilo * Kilo),
    ];

    /// <summary>Bytes, rounded down; null where the text is no size above 0 and below 8 EiB.</summary>
    public static long? Parse(string text)
    {
        var (unit, factor) = Array.Find(Units, unit => text.EndsWith(unit.Unit, StringComparison.OrdinalIgnoreCase));
        if (unit is null || !double.TryParse(text.AsSpan(0, text.Length - unit.Length), NumberStyles.AllowDecimalPoint | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out var number))
        {
            return null;
        }

        return number * factor is >= 1 and < long.MaxValue and var bytes ? (long)bytes : null;
    }

    /// <summary>In the largest binary unit that leaves at least 1, with three digits: <c>41.2 GiB</c>.</summary>
    public static string Write(double bytes)
    {
        var (unit, factor) = Units.Take(4).LastOrDefault(unit => Math.Abs(bytes) >= unit.Bytes, Units[0]);
        var number = bytes / factor;
        var digits = Math.Abs(number) >= 100 ? "0" : Math.Abs(number) >= 10 ? "0.0" : "0.00";
        return $"{number.ToString(digits, CultureInfo.InvariantCulture)} {unit}";
    }
}

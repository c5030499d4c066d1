using System.Globalization;

namespace Moe.Training.Reports;

/// <summary>How far the growing files of a run were read: what a page that shows them asks to go on from.</summary>
/// <param name="Attempt">The run's attempt; when the run is continued, files may have been cut.</param>
/// <param name="Offsets">Bytes read of each of <see cref="Files"/>.</param>
public sealed record RunCursor(int Attempt, IReadOnlyList<long> Offsets)
{
    /// <summary>Names of the events that carry the files' lines, in the order of <see cref="Offsets"/>.</summary>
    public static IReadOnlyList<string> Files { get; } = ["metrics", "experts", "domains", "ranks", "event"];

    /// <summary>Reads what <see cref="ToString"/> wrote; null where it is something else.</summary>
    public static RunCursor? Parse(string? text)
    {
        var parts = text?.Split('-') ?? [];
        var numbers = new List<long>();
        foreach (var part in parts)
        {
            if (!long.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out var number))
            {
                return null;
            }

            numbers.Add(number);
        }

        return numbers.Count == Files.Count + 1 && numbers[0] <= int.MaxValue ? new RunCursor((int)numbers[0], numbers[1..]) : null;
    }

    /// <summary>Numbers with dashes between: fit for an HTTP header and a query.</summary>
    public override string ToString() => string.Join('-', Offsets.Prepend(Attempt).Select(number => number.ToString(CultureInfo.InvariantCulture)));
}

using System.Globalization;

namespace Moe.Training.Profiling;

/// <summary>Steps of a training, counted from 1 as in metrics.jsonl.</summary>
/// <param name="First">At least 1.</param>
/// <param name="Last">Not before the first.</param>
public readonly record struct StepRange(long First, long Last)
{
    /// <summary>How many they are.</summary>
    public long Count => Last - First + 1;

    /// <summary>Reads <c>A-B</c>, or <c>A</c> for one step.</summary>
    public static bool TryParse(string text, out StepRange range)
    {
        var parts = text.Split('-');
        range = default;
        if (parts.Length > 2 || !Step(parts[0], out var first) || !Step(parts[^1], out var last) || last < first)
        {
            return false;
        }

        range = new StepRange(first, last);
        return true;

        static bool Step(string digits, out long step) => long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out step) && step >= 1;
    }

    /// <inheritdoc/>
    public override string ToString() => First == Last ? FormattableString.Invariant($"{First}") : FormattableString.Invariant($"{First}-{Last}");
}

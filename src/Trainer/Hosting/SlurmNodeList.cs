using System.Globalization;

namespace Moe.Training.Hosting;

/// <summary>Reads the two compressed lists that Slurm puts into the environment: names of nodes, and tasks of each node.</summary>
public static class SlurmNodeList
{
    /// <summary>Names of the nodes in their order, as <c>scontrol show hostnames</c> prints them.</summary>
    /// <param name="text">Such as <c>login,gpu[01-03,7]-ib</c>.</param>
    /// <exception cref="FormatException">Brackets don't match, or a range is none.</exception>
    public static IReadOnlyList<string> Names(string text) => [.. Split(text).SelectMany(Expand)];

    /// <summary>Tasks of each node in the order of the nodes.</summary>
    /// <param name="text">Such as <c>2(x3),1</c>, which is 2, 2, 2, 1.</param>
    /// <exception cref="FormatException">A part is neither a count nor a count with its repetition.</exception>
    public static IReadOnlyList<int> Tasks(string text) => [.. text.Split(',').SelectMany(part =>
        part.Split("(x") is [var count, var times] && times.EndsWith(')')
            ? Enumerable.Repeat(Number(count, text), Number(times[..^1], text))
            : [Number(part, text)])];

    // At commas outside brackets.
    private static IEnumerable<string> Split(string text)
    {
        var start = 0;
        var depth = 0;
        for (var i = 0; i < text.Length; i++)
        {
            depth += text[i] switch { '[' => 1, ']' => -1, _ => 0 };
            if (depth is < 0 or > 1)
            {
                throw new FormatException($"'{text}' is no list of Slurm nodes: its brackets don't match.");
            }

            if (text[i] == ',' && depth == 0)
            {
                yield return text[start..i];
                start = i + 1;
            }
        }

        if (depth != 0)
        {
            throw new FormatException($"'{text}' is no list of Slurm nodes: its brackets don't match.");
        }

        yield return text[start..];
    }

    // One name, or a pattern with one or more ranges: rack[0-1]node[1-2].
    private static IEnumerable<string> Expand(string pattern)
    {
        var open = pattern.IndexOf('[');
        if (open < 0)
        {
            return pattern.Length == 0 ? throw new FormatException("A list of Slurm nodes has an empty name.") : [pattern];
        }

        var close = pattern.IndexOf(']', open);
        var rest = pattern[(close + 1)..];
        IEnumerable<string> tails = rest.Length == 0 ? [""] : Expand(rest).ToList();
        return pattern[(open + 1)..close].Split(',').SelectMany(range => Range(range, pattern)).SelectMany(
            number => tails.Select(tail => pattern[..open] + number + tail));
    }

    private static IEnumerable<string> Range(string range, string pattern)
    {
        var ends = range.Split('-');
        var first = Number(ends[0], pattern);
        var last = ends.Length == 1 ? first : ends.Length == 2 ? Number(ends[1], pattern) : throw Bad(pattern);
        return last < first
            ? throw Bad(pattern)
            : Enumerable.Range(first, last - first + 1).Select(number => number.ToString("D" + ends[0].Length, CultureInfo.InvariantCulture)); // leading zeros stay
    }

    private static int Number(string text, string whole) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : throw Bad(whole);

    private static FormatException Bad(string text) => new($"'{text}' is no list as Slurm writes them.");
}

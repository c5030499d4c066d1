using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Moe.Launch.Sweeps;

/// <summary>One combination of a grid's values, which one run is made of.</summary>
/// <param name="Choices">Key and value of each axis, in the order of the command line.</param>
/// <param name="Seed">The run's seed; null where the sweep names none.</param>
/// <param name="Group">The choices in words, without the seed: points of one group differ by the seed alone.</param>
/// <param name="Name">The group with the seed, which also is the name of the run folder.</param>
internal sealed record SweepPoint(IReadOnlyList<KeyValuePair<string, string>> Choices, ulong? Seed, string Group, string Name)
{
    private const int LongestName = 120;

    // Keys whose last part says nothing by itself.
    private static readonly HashSet<string> Vague = ["name", "file", "path", "mode", "scope", "kind"];

    /// <summary>What <c>--set</c> would be given for this point.</summary>
    public IReadOnlyList<string> Overrides =>
        [.. Choices.Select(choice => $"{choice.Key}={choice.Value}"), .. Seed is { } seed ? [string.Create(CultureInfo.InvariantCulture, $"run.seed={seed}")] : Array.Empty<string>()];

    /// <summary>All points of a grid, the last axis and then the seed changing fastest.</summary>
    public static IReadOnlyList<SweepPoint> All(IReadOnlyList<GridAxis> axes, IReadOnlyList<ulong> seeds)
    {
        IEnumerable<IReadOnlyList<KeyValuePair<string, string>>> combinations = [[]];
        foreach (var axis in axes)
        {
            combinations = [.. combinations.SelectMany(before => axis.Values.Select(value => (IReadOnlyList<KeyValuePair<string, string>>)[.. before, new(axis.Key, value)]))];
        }

        var labels = Labels(axes);
        return [.. combinations.SelectMany(choices => (seeds.Count == 0 ? [null] : seeds.Select(seed => (ulong?)seed)).Select(seed => Of(choices, seed, labels)))];
    }

    /// <summary>A short label for each axis: the last part of its key, with what stands before it where that alone would not do.</summary>
    public static IReadOnlyDictionary<string, string> Labels(IReadOnlyList<GridAxis> axes)
    {
        return axes.ToDictionary(axis => axis.Key, axis => axis.Key.Split('.') switch
        {
            [.., var last] when axes.Any(other => other != axis && other.Key.Split('.')[^1] == last) => axis.Key,
            [.., var parent, var last] when Vague.Contains(last) => $"{parent}.{last}",
            var parts => parts[^1],
        });
    }

    private static SweepPoint Of(IReadOnlyList<KeyValuePair<string, string>> choices, ulong? seed, IReadOnlyDictionary<string, string> labels)
    {
        var group = string.Join(",", choices.Select(choice => $"{labels[choice.Key]}={choice.Value}"));
        var name = seed is null ? group : string.Create(CultureInfo.InvariantCulture, $"{group}{(group.Length > 0 ? "," : "")}seed={seed}");
        return new SweepPoint(choices, seed, group.Length > 0 ? group : "all", FileName(name));
    }

    // Two values that differ only in what a file name cannot hold, or only far behind, still get names of their own.
    private static string FileName(string name)
    {
        var plain = string.Concat(name.Select(c => char.IsAsciiLetterOrDigit(c) || "._-+=,".Contains(c, StringComparison.Ordinal) ? c : '-'));
        return plain == name && name.Length <= LongestName
            ? name
            : plain[..Math.Min(plain.Length, LongestName)] + "-" + Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(name)))[..8];
    }
}

using System.Globalization;
using Moe.Training;

namespace Moe.Launch.Terminal;

/// <summary>How the numbers of metrics.jsonl are written for people: short names, a fixed order, fixed digits.</summary>
internal static class MetricText
{
    /// <summary>The largest resident size of any rank, GiB.</summary>
    public const string MemoryKey = RankMeter.PeakMemory;

    private static readonly (string Key, string Name, string Format)[] Columns =
    [
        ("train/loss", "loss", "F5"),
        ("eval/loss", "eval_loss", "F5"),
        ("train/balance_loss", "balance", "F4"),
        ("train/grad_norm", "grad_norm", "F4"),
        ("train/lr", "lr", "0.000e+00"),
        ("train/tokens", "tokens", "F0"),
        ("perf/tokens_per_s", "tok_s", "F0"),
        ("perf/step_ms", "step_ms", "F1"),
        ("perf/mfu_pct", "mfu_pct", "F1"),
        ("perf/all_to_all_ms", "a2a_ms", "F1"),
        (MemoryKey, "mem_gib", "F2"),
        ("moe/load_max_over_mean", "load_max_mean", "F2"),
        ("moe/dead_experts", "dead", "F0"),
        ("moe/dropped", "dropped", "F0"),
    ];

    /// <summary>The known values of a row as <c>name=value</c>, in a fixed order, so that a log can be cut by column.</summary>
    public static IEnumerable<string> Pairs(IReadOnlyDictionary<string, double> row)
    {
        foreach (var (key, name, format) in Columns)
        {
            if (row.TryGetValue(key, out var value))
            {
                yield return $"{name}={value.ToString(format, CultureInfo.InvariantCulture)}";
            }
        }
    }

    /// <summary>A duration as people say it: <c>41s</c>, <c>2m 14s</c>, <c>3h 05m</c>.</summary>
    public static string Duration(TimeSpan time) => time switch
    {
        { TotalMinutes: < 1 } => Invariant($"{time.TotalSeconds:F0}s"),
        { TotalHours: < 1 } => Invariant($"{time.Minutes}m {time.Seconds:D2}s"),
        _ => Invariant($"{(int)time.TotalHours}h {time.Minutes:D2}m"),
    };

    /// <summary>A count with its thousands apart by thin groups: <c>84 120</c>.</summary>
    public static string Count(double value) => value.ToString("#,0", Grouped);

    /// <summary>A parameter count in words: <c>9.8M</c>.</summary>
    public static string Size(long count) => count switch
    {
        >= 1_000_000_000 => Invariant($"{count / 1e9:F2}B"),
        >= 1_000_000 => Invariant($"{count / 1e6:F1}M"),
        >= 1_000 => Invariant($"{count / 1e3:F0}k"),
        _ => Invariant($"{count}"),
    };

    /// <summary>The text in the invariant culture: numbers in output are for programs as well.</summary>
    public static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private static readonly NumberFormatInfo Grouped = new() { NumberGroupSeparator = " " };
}

using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>Which numbers the rows of a run's metrics.jsonl have: they follow from its configuration, so that what reads them can be checked before the run starts.</summary>
public static class MetricKeys
{
    private static readonly string[] OfSteps =
    [
        "train/loss", "train/balance_loss", "train/z_loss", "train/grad_norm", "train/lr", "train/tokens", "train/skipped",
        "perf/tokens_per_s", "perf/step_ms", "perf/tflops_per_rank", "perf/mfu_pct", "perf/all_to_all_ms", "perf/all_to_all_share", "perf/data_ms", "perf/optimizer_ms",
        RankMeter.PeakCompute, RankMeter.PeakMemory, "moe/load_max_over_mean", "moe/dead_experts", "moe/dropped",
    ];

    private static readonly string[] OfEvaluations = ["eval/loss", "eval/tokens"];

    /// <summary>The keys of a finished run, without those that say which step a row is of, and when it was written.</summary>
    /// <param name="config">Checked.</param>
    public static IReadOnlyList<string> Of(RunConfig config) =>
    [
        .. OfSteps,
        .. config.Train.EvalEvery > 0 ? OfEvaluations : [],
        .. config.Train.EvalEvery > 0 && config.Data.Domains.Count > 1 ? config.Data.Domains.Select(domain => LossOf(domain.Name)) : [],
    ];

    /// <summary>The key of a domain's loss where there are several domains.</summary>
    /// <param name="domain">Its name.</param>
    public static string LossOf(string domain) => $"eval/loss/{domain}";

    /// <summary>Keys that one which is not among them may have been meant to be, the nearest first.</summary>
    /// <param name="key">As somebody has written it.</param>
    /// <param name="known">What there is.</param>
    /// <returns>At most three; none where none is near.</returns>
    public static IReadOnlyList<string> Nearest(string key, IEnumerable<string> known)
    {
        // A name without its folder, and one of another folder, are as near as their last parts.
        var near = known.Select(candidate => (candidate, Whole: NearestKey.Distance(key, candidate), Last: NearestKey.Distance(Last(key), Last(candidate))))
            .Where(pair => Math.Min(pair.Whole, pair.Last) <= (Last(key).Length + 2) / 3);
        return [.. near.OrderBy(pair => Math.Min(pair.Whole, pair.Last)).ThenBy(pair => pair.Whole).Select(pair => pair.candidate).Take(3)];

        static string Last(string text) => text[(text.LastIndexOf('/') + 1)..];
    }
}

using System.Globalization;
using System.Text.Json;
using Moe.Training;
using Moe.Training.Hosting;
using Moe.Training.Reports;

namespace Moe.Launch.Dashboard;

/// <summary>The numbers of runs for Prometheus: of those that run, and of those that ended so lately that a scraper may not have seen the end.</summary>
internal static class RunGauges
{
    private static readonly TimeSpan Lately = TimeSpan.FromMinutes(5);

    private static readonly (string Key, string Name, string Type, string Help, double Factor)[] OfRows =
    [
        ("step", "moe_train_step", "gauge", "Steps done.", 1),
        ("train/tokens", "moe_train_tokens_total", "counter", "Training tokens used.", 1),
        ("train/loss", "moe_train_loss_nats", "gauge", "Training loss of the last logged step, nats per token.", 1),
        ("train/grad_norm", "moe_train_gradient_norm", "gauge", "Norm of the gradient before clipping.", 1),
        ("train/lr", "moe_train_learning_rate", "gauge", "Learning rate.", 1),
        ("train/balance_loss", "moe_train_balance_loss", "gauge", "Balancing loss, 1 when balanced.", 1),
        ("perf/tokens_per_s", "moe_tokens_per_second", "gauge", "Training tokens a second over all ranks.", 1),
        ("perf/step_ms", "moe_step_seconds", "gauge", "Time of a step.", 0.001),
        ("perf/mfu_pct", "moe_flop_utilisation_ratio", "gauge", "Operations of the model over those that the ranks could make at most.", 0.01),
        ("perf/all_to_all_ms", "moe_all_to_all_seconds", "gauge", "Time that rank 0 waits for all-to-alls in a step.", 0.001),
        ("perf/data_ms", "moe_data_seconds", "gauge", "Time that rank 0 reads data in a step.", 0.001),
        ("perf/optimizer_ms", "moe_optimizer_seconds", "gauge", "Time of the update on rank 0.", 0.001),
        ("moe/load_max_over_mean", "moe_expert_load_max_over_mean", "gauge", "Largest expert load over the mean, averaged over the layers.", 1),
        ("moe/dead_experts", "moe_dead_experts", "gauge", "Experts that no token of the step chose.", 1),
        ("moe/dropped", "moe_dropped_choices", "gauge", "Choices of the step that went to no expert.", 1),
    ];

    private static readonly (string Key, string Name, string Help, double Factor)[] OfRanks =
    [
        (RankMeter.StepTime, "moe_rank_step_seconds", "Time of a step, by rank.", 0.001),
        (RankMeter.BusyTime, "moe_rank_busy_seconds", "Time of a step less all waiting for other ranks.", 0.001),
        (RankMeter.AllToAllTime, "moe_rank_all_to_all_seconds", "Time waited for all-to-alls in a step.", 0.001),
        (RankMeter.PeakCompute, "moe_rank_peak_compute_bytes", "Most bytes in tensors of the rank's GPU, or its largest resident size on the CPU.", 1L << 30),
        (RankMeter.PeakMemory, "moe_rank_peak_resident_bytes", "Largest resident size that the rank has had.", 1L << 30),
    ];

    /// <summary>Writes them.</summary>
    /// <param name="catalog">The runs.</param>
    /// <param name="now">UTC.</param>
    public static string Write(RunCatalog catalog, DateTime now)
    {
        var text = new PrometheusText();
        var open = catalog.Opener();
        var runs = catalog.Runs(open);
        text.Add("moe_runs", "gauge", "Runs in the folder.", runs.Count);
        foreach (var (name, folder) in runs)
        {
            if (RunSnapshotReader.Record(folder, open) is var record && IsOfInterest(record, now))
            {
                AddRun(text, name, folder, record, open);
            }
        }

        return text.ToString();
    }

    private static bool IsOfInterest(JsonElement record, DateTime now) =>
        Text(record, "status") is "starting" or "running" or "stopping"
        || (record.TryGetProperty("end", out var end) && end.ValueKind == JsonValueKind.String && end.TryGetDateTime(out var time) && now - time.ToUniversalTime() < Lately);

    private static void AddRun(PrometheusText text, string name, RunFolder folder, JsonElement record, OpenRunFile open)
    {
        var run = ("run", name);
        text.Add(
            "moe_run_info", "gauge", "What runs; always 1.", 1,
            run, ("status", Text(record, "status")), ("backend", Text(record, "backend")), ("mesh", Text(record, "mesh")), ("host", Text(record, "host")));
        if (record.TryGetProperty("start", out var start) && start.ValueKind == JsonValueKind.String && start.TryGetDateTimeOffset(out var time))
        {
            text.Add("moe_run_start_time_seconds", "gauge", "When the attempt started, since 1970.", time.ToUnixTimeMilliseconds() / 1000.0, run);
        }

        var rows = RowTail.NewestFirst(open(folder.MetricsFile)).Take(200).ToList();
        JsonElement? training = rows.FirstOrDefault(row => row.TryGetProperty("train/lr", out _)) is { ValueKind: JsonValueKind.Object } row ? row : null;
        JsonElement? evaluation = rows.FirstOrDefault(row => row.TryGetProperty("eval/loss", out _)) is { ValueKind: JsonValueKind.Object } found ? found : null;
        foreach (var (key, metric, type, help, factor) in OfRows)
        {
            text.Add(metric, type, help, Value(training, key) * factor, run);
        }

        text.Add("moe_eval_loss_nats", "gauge", "Loss of the last evaluation, nats per token.", Value(evaluation, "eval/loss"), run);
        if (RowTail.NewestFirst(open(folder.RanksFile)).FirstOrDefault() is { ValueKind: JsonValueKind.Object } ranks)
        {
            AddRanks(text, ranks, run);
        }
    }

    private static void AddRanks(PrometheusText text, JsonElement ranks, (string Name, string Value) run)
    {
        foreach (var (key, metric, help, factor) in OfRanks)
        {
            if (ranks.TryGetProperty(key, out var values) && values.ValueKind == JsonValueKind.Array)
            {
                foreach (var (rank, value) in values.EnumerateArray().Index())
                {
                    text.Add(
                        metric, "gauge", help, value.ValueKind == JsonValueKind.Number ? value.GetDouble() * factor : null,
                        run, ("rank", rank.ToString(CultureInfo.InvariantCulture)));
                }
            }
        }
    }

    // A row has null where the number is none.
    private static double? Value(JsonElement? row, string key) =>
        row is { } there && there.TryGetProperty(key, out var value) ? value.ValueKind == JsonValueKind.Number ? value.GetDouble() : double.NaN : null;

    private static string Text(JsonElement record, string key) =>
        record.TryGetProperty(key, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString()! : "";
}

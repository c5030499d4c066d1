using System.Text.Json;
using System.Text.Json.Serialization;
using Moe.Training.Hosting;
using Moe.Training.Reports;

namespace Moe.Launch.Dashboard;

/// <summary>One line of the list of runs.</summary>
/// <param name="Name">Of its folder.</param>
/// <param name="Status">As in run.json.</param>
/// <param name="Start">When its last attempt started, UTC.</param>
internal sealed record RunSummary(string Name, string? Status, DateTime? Start)
{
    /// <summary>Steps done; null before the first logged one.</summary>
    public long? Step { get; init; }

    /// <summary>Number of the last step; null where the folder does not say it.</summary>
    public long? LastStep { get; init; }

    /// <summary>Training loss of the last logged step, in nats per token.</summary>
    public double? Loss { get; init; }

    /// <summary>Loss of the last evaluation, in nats per token.</summary>
    public double? EvalLoss { get; init; }

    /// <summary>Speed at the last logged step.</summary>
    public double? TokensPerS { get; init; }

    /// <summary>Reads what a line needs, from the ends of the files.</summary>
    public static RunSummary Read(string name, RunFolder folder, OpenRunFile open)
    {
        var record = RunSnapshotReader.Record(folder, open);
        JsonElement? training = null, evaluation = null;
        foreach (var row in RowTail.NewestFirst(open(folder.MetricsFile)))
        {
            training ??= row.TryGetProperty("train/loss", out _) ? row : null;
            evaluation ??= row.TryGetProperty("eval/loss", out _) ? row : null;
            if (training is not null && evaluation is not null)
            {
                break;
            }
        }

        return new RunSummary(
            name,
            record.TryGetProperty("status", out var status) && status.ValueKind == JsonValueKind.String ? status.GetString() : null,
            record.TryGetProperty("start", out var start) && start.ValueKind == JsonValueKind.String && start.TryGetDateTime(out var time) ? time : null)
        {
            Step = (long?)Number(training, "step"),
            LastStep = LastStepOf(folder, open),
            Loss = Number(training, "train/loss"),
            EvalLoss = Number(evaluation, "eval/loss"),
            TokensPerS = Number(training, "perf/tokens_per_s"),
        };
    }

    /// <summary>A finite number of a row; null where it has none.</summary>
    public static double? Number(JsonElement? row, string key) =>
        row is { } there && there.TryGetProperty(key, out var value) && value.ValueKind == JsonValueKind.Number ? value.GetDouble() : null;

    private static long? LastStepOf(RunFolder folder, OpenRunFile open)
    {
        using var stream = open(folder.ConfigOriginFile);
        try
        {
            using var config = stream is null ? null : JsonDocument.Parse(stream);
            return config is not null && config.RootElement.TryGetProperty("train.steps", out var steps)
                && long.TryParse(steps.GetProperty("value").GetString(), out var number) ? number : null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            return null;
        }
    }
}

/// <summary>Serialisers of the live page's answers, made at compile time.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(IReadOnlyList<RunSummary>))]
[JsonSerializable(typeof(LogTail))]
internal sealed partial class DashboardJson : JsonSerializerContext;

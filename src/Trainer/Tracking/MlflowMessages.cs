using System.Text.Json.Serialization;

namespace Moe.Training.Tracking;

/// <summary>A point of a metric.</summary>
/// <param name="Key">Its name.</param>
/// <param name="Value">Any number; NaN and the infinities are sent as texts, which alone a server reads aright.</param>
/// <param name="Timestamp">Milliseconds since 1970, UTC.</param>
/// <param name="Step">Of the training; a counter for metrics of the machine.</param>
internal readonly record struct MlflowMetric(string Key, double Value, long Timestamp, long Step);

/// <summary>A parameter or a tag.</summary>
/// <param name="Key">Its name.</param>
/// <param name="Value">Its text.</param>
internal readonly record struct MlflowText(string Key, string Value);

/// <summary>Body of <c>runs/log-batch</c>.</summary>
internal sealed record MlflowBatch(string RunId, IReadOnlyList<MlflowMetric> Metrics, IReadOnlyList<MlflowText> Params, IReadOnlyList<MlflowText> Tags)
{
    [JsonIgnore]
    public int Count => Metrics.Count + Params.Count + Tags.Count;
}

internal sealed record MlflowExperiment(string ExperimentId, string? Name = null, string? ArtifactLocation = null, string? LifecycleStage = null);

internal sealed record MlflowExperimentReply(MlflowExperiment? Experiment);

internal sealed record MlflowNewExperiment(string Name);

internal sealed record MlflowRunInfo(string RunId, string? RunName, string? ExperimentId, string? Status, string? ArtifactUri, string? LifecycleStage);

internal sealed record MlflowRun(MlflowRunInfo Info);

internal sealed record MlflowRunReply(MlflowRun? Run);

internal sealed record MlflowRunsReply(IReadOnlyList<MlflowRun>? Runs);

internal sealed record MlflowNewRun(string ExperimentId, string RunName, long StartTime, IReadOnlyList<MlflowText> Tags);

internal sealed record MlflowRunUpdate(string RunId, string Status, long? EndTime);

internal sealed record MlflowSearch(IReadOnlyList<string> ExperimentIds, string Filter, int MaxResults);

internal sealed record MlflowError(string? ErrorCode, string? Message);

/// <summary>Serialisers of what goes to a server and into mlflow.json, made at compile time.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals | JsonNumberHandling.AllowReadingFromString)]
[JsonSerializable(typeof(MlflowBatch))]
[JsonSerializable(typeof(MlflowExperiment))]
[JsonSerializable(typeof(MlflowExperimentReply))]
[JsonSerializable(typeof(MlflowNewExperiment))]
[JsonSerializable(typeof(MlflowRunReply))]
[JsonSerializable(typeof(MlflowRunsReply))]
[JsonSerializable(typeof(MlflowNewRun))]
[JsonSerializable(typeof(MlflowRunUpdate))]
[JsonSerializable(typeof(MlflowSearch))]
[JsonSerializable(typeof(MlflowError))]
[JsonSerializable(typeof(TrackingState))]
[JsonSerializable(typeof(JournalEntry))]
[JsonSerializable(typeof(Dictionary<string, string>), TypeInfoPropertyName = "DictionaryStringString")]
internal sealed partial class MlflowJson : JsonSerializerContext;

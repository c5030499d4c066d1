using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>How one run is tracked: the configuration over the environment.</summary>
/// <param name="Target">Where it is told to.</param>
/// <param name="Experiment">Name of its experiment.</param>
/// <param name="RunName">Its own name.</param>
public sealed record TrackingSettings(TrackingTarget Target, string Experiment, string RunName)
{
    /// <summary>How a server is reached.</summary>
    public MlflowConnection Connection { get; init; } = new();

    /// <summary>The server's id of the experiment, where the user gave it; null where the name counts.</summary>
    public string? ExperimentId { get; init; }

    /// <summary>A run that exists and is to be written to; null for a new one.</summary>
    public string? RunId { get; init; }

    /// <summary>The run that this one is shown under; null for none.</summary>
    public string? ParentRunId { get; init; }

    /// <summary>The user's own tags.</summary>
    public IReadOnlyDictionary<string, string> Tags { get; init; } = new Dictionary<string, string>();

    /// <summary>Whether configuration, report and sample are stored.</summary>
    public bool Artifacts { get; init; } = true;

    /// <summary>Which checkpoints are stored.</summary>
    public TrackedCheckpoints Checkpoints { get; init; }

    /// <summary>Time between two samples of the machine's load; null where it is not told.</summary>
    public TimeSpan? MachineInterval { get; init; }

    /// <summary>Samples whose mean is one point.</summary>
    public int SamplesOfPoint { get; init; } = 1;

    /// <summary>Goes into the names of the machine's metrics; null where it does not.</summary>
    public string? NodeId { get; init; }

    /// <summary>How long an ended run waits for its server.</summary>
    public TimeSpan FinishWait { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The settings of a run; null where it is not tracked.</summary>
    /// <param name="config">The whole configuration.</param>
    /// <param name="environment">What the environment says.</param>
    /// <param name="folder">Of the run.</param>
    public static TrackingSettings? Of(RunConfig config, TrackingEnvironment environment, RunFolder folder)
    {
        var tracking = config.Tracking;
        if ((tracking.Mlflow ?? environment.Uri) is not { } uri || TrackingTarget.Parse(uri) is not { } target)
        {
            return null;
        }

        var tags = new Dictionary<string, string>(environment.ContextTags);
        foreach (var tag in tracking.Tags)
        {
            tags[tag.Key] = tag.Value;
        }

        tags.Remove("mlflow.parentRunId", out var contextParent);
        return new TrackingSettings(
            target,
            MlflowLimits.Cut(tracking.Experiment ?? environment.ExperimentName ?? config.Run.Name, MlflowLimits.NameLength),
            MlflowLimits.Cut(tracking.RunName ?? environment.RunName ?? Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder.Path))), MlflowLimits.NameLength))
        {
            Connection = environment.Connection,
            ExperimentId = tracking.Experiment is null ? environment.ExperimentId : null,
            RunId = environment.RunId,
            ParentRunId = tracking.ParentRunId ?? environment.ParentRunId ?? contextParent,
            Tags = tags,
            Artifacts = tracking.Artifacts,
            Checkpoints = tracking.Checkpoints,
            MachineInterval = tracking.SystemMetrics ?? environment.SystemMetrics ?? true
                ? TimeSpan.FromSeconds(tracking.SystemMetricsSeconds ?? environment.SystemMetricsSeconds ?? 10)
                : null,
            SamplesOfPoint = environment.SamplesOfPoint,
            NodeId = environment.NodeId,
            FinishWait = TimeSpan.FromSeconds(tracking.FinishWaitSeconds),
        };
    }

    /// <summary>A store for this target.</summary>
    /// <exception cref="MlflowException">A certificate file cannot be read.</exception>
    internal static ITrackingStore Open(TrackingTarget target, MlflowConnection connection, Action<string> warn) => target.Folder is { } root
        ? new MlflowFileStore(root, warn)
        : new MlflowServerStore(new MlflowClient(target.Uri, connection), warn);
}

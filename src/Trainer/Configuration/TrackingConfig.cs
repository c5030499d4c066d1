namespace Moe.Training.Configuration;

/// <summary>Section <c>tracking</c>.</summary>
public sealed record TrackingConfig
{
    [Setting(
        "Where the run is told to MLflow: a server (`http://HOST:5000`), a folder in MLflow's file layout (`file:./mlruns`), or `none`. User name, password and token come from the environment.",
        Default = "null (`MLFLOW_TRACKING_URI`, else none)", IsUri = true)]
    public string? Mlflow { get; init; }

    [Setting("Experiment, made where it is missing.", Default = "null (`MLFLOW_EXPERIMENT_NAME`, else `run.name`)")]
    public string? Experiment { get; init; }

    [Setting("Name of the run.", Default = "null (`MLFLOW_RUN_NAME`, else the run folder's name)")]
    public string? RunName { get; init; }

    [Setting("Run that this one is shown under, as the parts of a sweep are.", Default = "null (`MLFLOW_PARENT_RUN_ID`, else none)")]
    public string? ParentRunId { get; init; }

    [Setting("Further tags of the run.", Default = "empty")]
    public ValueList<TrackingTag> Tags { get; init; } = [];

    [Setting("Whether configuration, report and sample text are stored with the run.")]
    public bool Artifacts { get; init; } = true;

    [Setting("Checkpoints that are stored with the run: `none`, the `last` one when the run ends or stops, or `all` while it goes on.")]
    public TrackedCheckpoints Checkpoints { get; init; } = TrackedCheckpoints.None;

    [Setting("Whether the load of rank 0's machine (processor, memory, disk, network, GPUs) is told too.", Default = "null (`MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING`, else true)")]
    public bool? SystemMetrics { get; init; }

    [Setting("Seconds between two samples of that load.", AtLeast = 0.1, AtMost = 3600, Default = "null (`MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL`, else 10)")]
    public double? SystemMetricsSeconds { get; init; }

    [Setting("Seconds that an ended run waits for a server that is behind; what it then lacks, `launch mlflow sync` sends.", AtLeast = 0, AtMost = 3600)]
    public double FinishWaitSeconds { get; init; } = 10;
}

/// <summary>One item of <c>tracking.tags</c>.</summary>
public sealed record TrackingTag
{
    [Setting("Name of the tag.")]
    public required string Key { get; init; }

    [Setting("Its text.")]
    public required string Value { get; init; }
}

/// <summary>Values of <c>tracking.checkpoints</c>.</summary>
public enum TrackedCheckpoints
{
    /// <summary>They stay in the run folder.</summary>
    None,

    /// <summary>The newest, when the run ends or stops.</summary>
    Last,

    /// <summary>Each, once it is written.</summary>
    All,
}

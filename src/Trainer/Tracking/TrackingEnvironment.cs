using System.Globalization;
using System.Text.Json;

namespace Moe.Training.Tracking;

/// <summary>
/// What the environment says of tracking: MLflow's variables, and who runs where. A value that cannot be read is left out and warned of, since
/// a training does not fail by its tracker.
/// </summary>
public sealed record TrackingEnvironment
{
    private static readonly IReadOnlyDictionary<string, string> NoTags = new Dictionary<string, string>();

    /// <summary>MLFLOW_TRACKING_URI without user name and password; null where it is not set or cannot be used.</summary>
    public string? Uri { get; init; }

    /// <summary>How to reach the server.</summary>
    public MlflowConnection Connection { get; init; } = new();

    /// <summary>MLFLOW_EXPERIMENT_NAME.</summary>
    public string? ExperimentName { get; init; }

    /// <summary>MLFLOW_EXPERIMENT_ID, which counts before a name.</summary>
    public string? ExperimentId { get; init; }

    /// <summary>MLFLOW_RUN_ID: a run that exists already and is to be written to.</summary>
    public string? RunId { get; init; }

    /// <summary>MLFLOW_RUN_NAME.</summary>
    public string? RunName { get; init; }

    /// <summary>MLFLOW_PARENT_RUN_ID.</summary>
    public string? ParentRunId { get; init; }

    /// <summary>MLFLOW_RUN_CONTEXT: a JSON object of tags.</summary>
    public IReadOnlyDictionary<string, string> ContextTags { get; init; } = NoTags;

    /// <summary>MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING; null where it is not set.</summary>
    public bool? SystemMetrics { get; init; }

    /// <summary>MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL, in seconds; null where it is not set.</summary>
    public double? SystemMetricsSeconds { get; init; }

    /// <summary>MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING: samples whose mean is one point.</summary>
    public int SamplesOfPoint { get; init; } = 1;

    /// <summary>MLFLOW_SYSTEM_METRICS_NODE_ID, which goes into the metrics' names.</summary>
    public string? NodeId { get; init; }

    /// <summary>SLURM_JOB_ID.</summary>
    public string? SlurmJob { get; init; }

    /// <summary>SLURM_JOB_NODELIST, in Slurm's short form.</summary>
    public string? SlurmNodes { get; init; }

    /// <summary>Who runs it.</summary>
    public string? User { get; init; }

    /// <summary>MOE_COMMAND: the command line that a user can repeat; null where the launcher did not start this.</summary>
    public string? Command { get; init; }

    /// <summary>Variables that were left out, and why.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>Reads the variables.</summary>
    /// <param name="variable">Value of a variable by name, null where it is not set.</param>
    public static TrackingEnvironment Read(Func<string, string?> variable)
    {
        var warnings = new List<string>();
        var read = new Reader(variable, warnings);
        var (uri, user, password) = Server(read.Text("MLFLOW_TRACKING_URI"), warnings);
        return new TrackingEnvironment
        {
            Uri = uri,
            Connection = Connect(read, user, password),
            ExperimentName = read.Text("MLFLOW_EXPERIMENT_NAME"),
            ExperimentId = read.Text("MLFLOW_EXPERIMENT_ID"),
            RunId = read.Text("MLFLOW_RUN_ID"),
            RunName = read.Text("MLFLOW_RUN_NAME"),
            ParentRunId = read.Text("MLFLOW_PARENT_RUN_ID"),
            ContextTags = read.Tags("MLFLOW_RUN_CONTEXT"),
            SystemMetrics = read.Flag("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"),
            SystemMetricsSeconds = read.Number("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", 0.1),
            SamplesOfPoint = (int)(read.Number("MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", 1) ?? 1),
            NodeId = read.Text("MLFLOW_SYSTEM_METRICS_NODE_ID"),
            SlurmJob = read.Text("SLURM_JOB_ID"),
            SlurmNodes = read.Text("SLURM_JOB_NODELIST"),
            User = read.Text("USER") ?? read.Text("LOGNAME"),
            Command = read.Text("MOE_COMMAND"),
            Warnings = warnings,
        };
    }

    private static MlflowConnection Connect(Reader read, string? user, string? password)
    {
        var standard = new MlflowConnection();
        return new MlflowConnection
        {
            Credentials = MlflowCredentials.Of(
                read.Text("MLFLOW_TRACKING_USERNAME") ?? user, read.Text("MLFLOW_TRACKING_PASSWORD") ?? password, read.Text("MLFLOW_TRACKING_TOKEN")),
            InsecureTls = read.Flag("MLFLOW_TRACKING_INSECURE_TLS") ?? false,
            ServerCertificateFile = read.Text("MLFLOW_TRACKING_SERVER_CERT_PATH"),
            ClientCertificateFile = read.Text("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
            Workspace = read.Text("MLFLOW_WORKSPACE"),
            RequestTimeout = read.Number("MLFLOW_HTTP_REQUEST_TIMEOUT", 0.001) is { } seconds ? TimeSpan.FromSeconds(seconds) : standard.RequestTimeout,
            Retry = standard.Retry with
            {
                // MLflow's factor of 2 stands for a first pause of a second.
                First = read.Number("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", 0.001) is { } factor ? TimeSpan.FromSeconds(factor / 2) : standard.Retry.First,
                Jitter = read.Number("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", 0) is { } jitter ? Math.Min(jitter, 1) : standard.Retry.Jitter,
                HeedsRetryAfter = read.Flag("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER") ?? standard.Retry.HeedsRetryAfter,
            },
        };
    }

    // Other tools of a machine share this variable, so that one which is not for us is no fault.
    private static (string? Uri, string? User, string? Password) Server(string? text, List<string> warnings)
    {
        if (text is null)
        {
            return default;
        }

        string? user = null, password = null;
        if (System.Uri.TryCreate(text, UriKind.Absolute, out var uri) && uri is { Scheme: "http" or "https", UserInfo: { Length: > 0 } info })
        {
            var parts = info.Split(':', 2);
            (user, password) = (System.Uri.UnescapeDataString(parts[0]), parts.Length > 1 ? System.Uri.UnescapeDataString(parts[1]) : null);
            text = new UriBuilder(uri) { UserName = "", Password = "" }.Uri.AbsoluteUri;
        }

        if (TrackingTarget.Fault(text) is { } fault)
        {
            warnings.Add($"MLFLOW_TRACKING_URI {fault}; nothing is tracked");
            return default;
        }

        return (text, user, password);
    }

    private readonly record struct Reader(Func<string, string?> Variable, List<string> Warnings)
    {
        public string? Text(string name) => Variable(name) is { Length: > 0 } text ? text : null;

        public double? Number(string name, double least)
        {
            if (Text(name) is not { } text)
            {
                return null;
            }

            if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number) && number >= least && number <= 1e6)
            {
                return number;
            }

            Warnings.Add(string.Create(CultureInfo.InvariantCulture, $"{name} is '{text}', no number of at least {least}; it is left out"));
            return null;
        }

        public bool? Flag(string name)
        {
            switch (Text(name)?.ToLowerInvariant())
            {
                case null:
                    return null;
                case "true" or "1" or "yes" or "on":
                    return true;
                case "false" or "0" or "no" or "off":
                    return false;
                default:
                    Warnings.Add($"{name} is neither true nor false; it is left out");
                    return null;
            }
        }

        public IReadOnlyDictionary<string, string> Tags(string name)
        {
            try
            {
                return Text(name) is { } text ? JsonSerializer.Deserialize(text, MlflowJson.Default.DictionaryStringString) ?? NoTags : NoTags;
            }
            catch (JsonException)
            {
                Warnings.Add($"{name} is no JSON object of texts; it is left out");
                return NoTags;
            }
        }
    }
}

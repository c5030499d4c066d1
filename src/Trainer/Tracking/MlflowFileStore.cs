using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Moe.Training.Tracking;

/// <summary>
/// Tells a run to a folder in the layout of MLflow's file store, which <c>mlflow ui</c> opens: <c>EXPERIMENT/RUN/{meta.yaml, metrics/, params/,
/// tags/, artifacts/}</c>.
/// </summary>
/// <param name="root">The store, such as <c>./mlruns</c>; made where it is missing.</param>
/// <param name="warn">Told of what the store will never take.</param>
internal sealed class MlflowFileStore(string root, Action<string> warn) : ITrackingStore
{
    private const string Active = "active";
    private const int ExperimentDigits = 18;

    // A batch that was on its way when its process ended is written again; its points are among a file's last.
    private const int TailLength = 1 << 20;

    private readonly Dictionary<string, HashSet<string>> _tails = [];
    private string _run = "";

    /// <inheritdoc/>
    public Task<TrackingState> OpenRunAsync(TrackingState state, Action<TrackingState> note, CancellationToken cancellation) => Written(() =>
    {
        Directory.CreateDirectory(Path.Combine(root, ".trash"));
        if (state.RunId is { } known && state.ExperimentId is null)
        {
            state = state with { ExperimentId = ExperimentOf(known) };
        }

        state = state with { ExperimentId = state.ExperimentId ?? Experiment(state.Experiment), RunId = state.RunId ?? NewId() };
        _run = Path.Combine(root, state.ExperimentId, state.RunId);
        foreach (var folder in (ReadOnlySpan<string>)["metrics", "params", "tags", "artifacts"])
        {
            Directory.CreateDirectory(Path.Combine(_run, folder));
        }

        state = state with { ArtifactUri = TrackingTarget.FileUri(Path.Combine(_run, "artifacts")) };
        if (!File.Exists(Path.Combine(_run, FileStoreMeta.FileName)))
        {
            note(state); // the id, before anybody sees the run
            WriteTag("mlflow.runName", state.RunName);
            if (state.ParentRunId is { } parent)
            {
                WriteTag("mlflow.parentRunId", parent);
            }

            FileStoreMeta.WriteRun(_run, state, TrackedStatus.Running, null);
        }

        return state;
    });

    /// <inheritdoc/>
    public Task<int> LogAsync(MlflowBatch batch, CancellationToken cancellation) => Written(() =>
    {
        foreach (var points in batch.Metrics.GroupBy(metric => metric.Key))
        {
            AppendPoints(Path.Combine(_run, "metrics", points.Key), points);
        }

        foreach (var (key, value) in batch.Params)
        {
            WriteParameter(key, value);
        }

        foreach (var (key, value) in batch.Tags)
        {
            WriteTag(key, value);
        }

        return 0;
    });

    /// <inheritdoc/>
    public Task UploadAsync(TrackingState run, string file, string name, CancellationToken cancellation) =>
        ArtifactCopy.ToAsync(Path.Combine(_run, "artifacts", name), file, cancellation);

    /// <inheritdoc/>
    public Task UpdateAsync(TrackingState run, string status, long? endTime, CancellationToken cancellation) => Written(() =>
    {
        FileStoreMeta.WriteRun(_run, run, status, endTime);
        return 0;
    });

    /// <inheritdoc/>
    public void Dispose()
    {
        // Every file is closed once it is written.
    }

    private static string NewId() => Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));

    private static Task<T> Written<T>(Func<T> write)
    {
        try
        {
            return Task.FromResult(write());
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new MlflowException(MlflowFault.Unavailable, $"the file store cannot be written: {e.Message}", inner: e);
        }
    }

    private string ExperimentOf(string runId) =>
        Directory.EnumerateDirectories(root).Where(folder => Directory.Exists(Path.Combine(folder, runId))).Select(folder => Path.GetFileName(folder)).FirstOrDefault()
        ?? throw new MlflowException(MlflowFault.Denied, $"there is no MLflow run {runId} in '{root}'");

    // Of several runs that begin together, one makes the experiment.
    private string Experiment(string name)
    {
        using var alone = new FileStream(Path.Combine(root, ".moe.lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        if (!File.Exists(Path.Combine(root, "0", FileStoreMeta.FileName)))
        {
            FileStoreMeta.WriteExperiment(Path.Combine(root, "0"), "0", "Default");
        }

        foreach (var folder in Directory.EnumerateDirectories(root))
        {
            if (FileStoreMeta.NameOf(folder) == name)
            {
                return Path.GetFileName(folder);
            }
        }

        var id = string.Concat(Enumerable.Range(0, ExperimentDigits).Select(digit => (char)('0' + RandomNumberGenerator.GetInt32(digit == 0 ? 1 : 0, 10))));
        FileStoreMeta.WriteExperiment(Path.Combine(root, id), id, name);
        return id;
    }

    private void AppendPoints(string path, IEnumerable<MlflowMetric> points)
    {
        if (!_tails.TryGetValue(path, out var tail))
        {
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            _tails[path] = tail = Tail(path);
        }

        var lines = new StringBuilder();
        foreach (var point in points)
        {
            var line = string.Create(CultureInfo.InvariantCulture, $"{point.Timestamp} {Number(point.Value)} {point.Step}");
            if (!tail.Contains(line))
            {
                lines.Append(line).Append('\n');
            }
        }

        File.AppendAllText(path, lines.ToString());
    }

    /// <summary>The last lines of a file, which then ends with a whole one.</summary>
    private static HashSet<string> Tail(string path)
    {
        using var stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
        var start = Math.Max(0, stream.Length - TailLength);
        stream.Seek(start, SeekOrigin.Begin);
        var bytes = new byte[stream.Length - start];
        stream.ReadExactly(bytes);
        var end = Array.LastIndexOf(bytes, (byte)'\n') + 1;
        stream.SetLength(start + end);
        return [.. Encoding.UTF8.GetString(bytes, 0, end).Split('\n', StringSplitOptions.RemoveEmptyEntries)];
    }

    // As Python writes and reads them.
    private static string Number(double value) => value switch
    {
        double.NaN => "nan",
        double.PositiveInfinity => "inf",
        double.NegativeInfinity => "-inf",
        _ => value.ToString("R", CultureInfo.InvariantCulture),
    };

    private void WriteParameter(string key, string value)
    {
        var path = Path.Combine(_run, "params", key);
        if (File.Exists(path) && File.ReadAllText(path) is var earlier && earlier != value)
        {
            warn($"the parameter {key} is '{earlier}' in the store and stays so; its value now is kept as a tag");
            WriteTag(MlflowLimits.CleanKey("param." + key), value);
            return;
        }

        FileStoreMeta.WriteText(path, value);
    }

    private void WriteTag(string key, string value) => FileStoreMeta.WriteText(Path.Combine(_run, "tags", key), value);
}

using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>
/// Tells one run to MLflow, from rank 0. Everything is journalled in the run folder first and sent on another thread: no call here waits for a
/// server, and none throws for one, or for a file of its own that cannot be written.
/// </summary>
internal sealed class RunTracker : IDisposable
{
    private const string CheckpointEvent = "checkpoint";

    // A sync of the same folder holds the lock for the length of a request.
    private static readonly TimeSpan LockPatience = TimeSpan.FromSeconds(3);

    private readonly RunFolder _folder;
    private readonly TrackingSettings _settings;
    private readonly Action<string> _warn;
    private readonly TimeProvider _time;
    private readonly HeldJournal? _held;
    private readonly TrackingJournal _journal;
    private readonly BackgroundSender? _background;
    private MachineWatch? _watch;
    private long _samples;
    private string? _checkpoint;
    private bool _hasWarned;

    private RunTracker(RunFolder folder, TrackingSettings settings, HeldJournal? held, TrackingJournal journal, Action<string> warn, TimeProvider time)
    {
        (_folder, _settings, _held, _journal, _warn, _time) = (folder, settings, held, journal, warn, time);
        _background = held is null ? null : new BackgroundSender(held.Sender, settings.Connection.Retry, warn, time);
        _samples = journal.History.Samples;
    }

    private long Now => _time.GetUtcNow().ToUnixTimeMilliseconds();

    /// <summary>Starts to track a run, or goes on with it.</summary>
    /// <param name="folder">Of the run.</param>
    /// <param name="settings">Null where the run is not tracked.</param>
    /// <param name="description">What the run is.</param>
    /// <param name="lastStep">The step that training goes on from; 0 for a new run.</param>
    /// <param name="warn">Told of what a user should know; may be called from any thread.</param>
    /// <param name="time">Of timestamps and pauses; null for the machine's.</param>
    /// <returns>Null where nothing is tracked.</returns>
    public static RunTracker? Open(
        RunFolder folder, TrackingSettings? settings, RunDescription description, long lastStep, Action<string> warn, TimeProvider? time = null)
    {
        if (settings is null)
        {
            return null;
        }

        RunTracker? tracker = null;
        try
        {
            tracker = Create(folder, settings, lastStep, warn, time ?? TimeProvider.System);
            tracker.Begin(description);
            return tracker;
        }
        catch (Exception e) when (DiskFault.IsOne(e) || e is MlflowException)
        {
            tracker?.Dispose();
            warn($"MLflow: the run is not tracked: {e.Message}");
            return null;
        }
    }

    /// <summary>Takes what a rank reports: rows and checkpoints; anything else is left out.</summary>
    public void Observe(ControlMessage message)
    {
        switch (message)
        {
            case MetricsMessage { Row: var row } when row.TryGetValue("step", out var step):
                Log((long)step, row);
                break;
            case EventMessage { Kind: CheckpointEvent, Step: var step } when _settings.Checkpoints != TrackedCheckpoints.None:
                _checkpoint = Path.GetRelativePath(_folder.Path, new Checkpoints.CheckpointFolder(_folder.CheckpointsFolder).Of(step));
                if (_settings.Checkpoints == TrackedCheckpoints.All)
                {
                    Store(_checkpoint);
                }

                break;
            default:
                break;
        }
    }

    /// <summary>Says how the run ended, stores what stands in its folder, and waits for the server, not for long.</summary>
    /// <param name="status">One of <see cref="TrackedStatus"/>.</param>
    /// <param name="patience">The longest wait; null for that of the settings.</param>
    /// <returns>Whether MLflow has everything.</returns>
    public bool Finish(string status, TimeSpan? patience = null)
    {
        _watch?.Dispose();
        if (_settings.Artifacts)
        {
            RunSync.StoreWritten(_folder, _journal.History.Artifacts, Store);
        }

        if (_settings.Checkpoints == TrackedCheckpoints.Last && _checkpoint is not null)
        {
            Store(_checkpoint);
        }

        Append(new StatusEntry(status, Now));
        return _background?.Finish(patience ?? _settings.FinishWait) ?? false;
    }

    /// <summary>One line that says what MLflow lacks and which command sends it; for a run whose <see cref="Finish"/> returned false.</summary>
    public string Rest => $"MLflow at {_settings.Target.Uri} lacks the end of this run{(_background?.Fault is { } fault ? $" ({fault})" : "")}; to send it: {RunSync.Command(_folder)}";

    /// <inheritdoc/>
    public void Dispose()
    {
        _watch?.Dispose();
        _background?.Dispose();
        _held?.Dispose();
        _journal.Dispose();
    }

    private static RunTracker Create(RunFolder folder, TrackingSettings settings, long lastStep, Action<string> warn, TimeProvider time)
    {
        if (HeldJournal.TryOpen(folder, settings, lastStep, LockPatience, time.GetUtcNow(), warn) is { } held)
        {
            return new RunTracker(folder, settings, held, held.Journal, warn, time);
        }

        // Whoever sends may be anywhere in the journal, so that nothing of it is taken back.
        var journal = TrackingJournal.Open(folder.TrackingFile, lastStep, long.MaxValue);
        warn($"MLflow: {SenderLock.Holder(folder)} sends what this run folder holds; to send the rest: {RunSync.Command(folder)}");
        return new RunTracker(folder, settings, null, journal, warn, time);
    }

    private void Begin(RunDescription description)
    {
        var history = _journal.History;
        var attempt = history.Attempts + 1;
        Append(new StatusEntry(TrackedStatus.Running, Now));
        Append(new TagsEntry(new Dictionary<string, string>([.. description.Tags, .. _settings.Tags])));
        if (description.NewParameters(history.Parameters, attempt) is { Count: > 0 } parameters)
        {
            Append(new ParametersEntry(parameters));
        }

        if (_settings.Artifacts && File.Exists(_folder.ConfigFile))
        {
            Store(Path.GetFileName(_folder.ConfigFile));
        }

        if (_settings.MachineInterval is { } interval)
        {
            var load = new MachineLoad(_settings.NodeId, _folder.Path, Nvml.TryLoad());
            _watch = new MachineWatch(load, interval, _settings.SamplesOfPoint, sample => Append(new MachineEntry(Now, _samples++, sample)), _time);
        }
    }

    private void Log(long step, IReadOnlyDictionary<string, double> row)
    {
        // A key without a section says where the row stands, and is no metric.
        var values = row.Where(entry => entry.Key.Contains('/', StringComparison.Ordinal) && !_journal.History.HasTold(entry.Key, step)).ToDictionary();
        if (values.Count > 0)
        {
            Append(new MetricsEntry(Now, step, values));
        }
    }

    private void Store(string path) => Append(new ArtifactEntry(path, Now));

    private void Append(JournalEntry entry)
    {
        try
        {
            _journal.Append(entry);
        }
        catch (Exception e) when (DiskFault.IsOne(e) || e is ObjectDisposedException)
        {
            if (!_hasWarned)
            {
                _hasWarned = true;
                _warn($"MLflow: {Path.GetFileName(_folder.TrackingFile)} cannot be written, and what does not fit is not told: {e.Message}");
            }
        }
    }
}

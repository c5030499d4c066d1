using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>A run folder's journal with the right to send it and the means to: all of it is had, from opening to disposal, or nothing.</summary>
internal sealed class HeldJournal : IDisposable
{
    private readonly SenderLock _lock;
    private readonly ITrackingStore _store;

    private HeldJournal(RunFolder folder, SenderLock held, TrackingJournal journal, ITrackingStore store, TrackingState state, Action<string> warn)
    {
        (_lock, Journal, _store) = (held, journal, store);
        Sender = new JournalSender(folder, state, store, warn, journal.Sync);
    }

    /// <summary>What is to be told is appended to it.</summary>
    public TrackingJournal Journal { get; }

    /// <summary>Sends what stands there.</summary>
    public JournalSender Sender { get; }

    /// <summary>Opens the journal of a run that begins or goes on; mlflow.json stands in the folder from then on.</summary>
    /// <param name="folder">Of the run.</param>
    /// <param name="settings">How it is tracked.</param>
    /// <param name="lastStep">The step that training goes on from.</param>
    /// <param name="patience">How long to wait for another process that sends the journal.</param>
    /// <param name="now">The start of a new run.</param>
    /// <param name="warn">Told of what a user should know; may be called from any thread.</param>
    /// <returns>Null where that process goes on.</returns>
    /// <exception cref="IOException">A file of the run folder cannot be read or written.</exception>
    /// <exception cref="UnauthorizedAccessException">Likewise.</exception>
    /// <exception cref="MlflowException">A certificate file cannot be read.</exception>
    public static HeldJournal? TryOpen(RunFolder folder, TrackingSettings settings, long lastStep, TimeSpan patience, DateTimeOffset now, Action<string> warn)
    {
        if (SenderLock.TryTake(folder, patience) is not { } held)
        {
            return null;
        }

        TrackingJournal? journal = null;
        try
        {
            var state = StateOf(folder, settings, now, warn);
            journal = TrackingJournal.Open(folder.TrackingFile, lastStep, Math.Max(state.Synced, state.Sending));
            state = state with { Synced = Math.Min(state.Synced, journal.Length), Sending = Math.Min(state.Sending, journal.Length) };
            state.Write(folder.TrackingStateFile);
            return new HeldJournal(folder, held, journal, TrackingSettings.Open(settings.Target, settings.Connection, warn), state, warn);
        }
        catch
        {
            journal?.Dispose();
            held.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _store.Dispose();
        Journal.Dispose();
        _lock.Dispose();
    }

    // A run continued towards another server is told to it whole, from the journal's first line.
    private static TrackingState StateOf(RunFolder folder, TrackingSettings settings, DateTimeOffset now, Action<string> warn)
    {
        var earlier = TrackingState.Read(folder.TrackingStateFile);
        if (earlier is not null && earlier.Uri == settings.Target.Uri)
        {
            return earlier;
        }

        if (earlier is not null)
        {
            warn($"MLflow: this run was told to {earlier.Uri}; all of it is told to {settings.Target.Uri} now, as a new run");
        }

        return new TrackingState(settings.Target.Uri, settings.Experiment, settings.RunName, Guid.NewGuid().ToString("N"), earlier?.StartTime ?? now.ToUnixTimeMilliseconds())
        {
            ExperimentId = settings.ExperimentId,
            RunId = earlier is null ? settings.RunId : null,
            ParentRunId = settings.ParentRunId,
        };
    }
}

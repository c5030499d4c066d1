using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>What a synchronisation of one run folder came to.</summary>
/// <param name="Outcome">In a word.</param>
/// <param name="Lines">Journal lines that were sent.</param>
/// <param name="Fault">Why the rest was not; null where there is no rest.</param>
/// <param name="State">As mlflow.json has it now; null where the run is not tracked.</param>
public sealed record SyncReport(SyncOutcome Outcome, int Lines = 0, string? Fault = null, TrackingState? State = null);

/// <summary>How a synchronisation ended.</summary>
public enum SyncOutcome
{
    /// <summary>The run was never tracked.</summary>
    NotTracked,

    /// <summary>MLflow has everything.</summary>
    Whole,

    /// <summary>MLflow lacks something.</summary>
    Behind,

    /// <summary>The run's own process sends it, or another sync.</summary>
    Busy,
}

/// <summary>Sends what a run folder holds and MLflow lacks, when the run's own process has ended.</summary>
public static class RunSync
{
    private static readonly string[] WrittenAtEnd = ["report.html", "sample.txt"];

    /// <summary>The command that sends the rest of a run.</summary>
    public static string Command(RunFolder folder) => $"launch mlflow sync --run {folder.Path}";

    /// <summary>Whether a folder holds a run that is tracked.</summary>
    public static bool IsTracked(RunFolder folder) => File.Exists(folder.TrackingStateFile);

    /// <summary>Sends everything, and tries again where the server is away.</summary>
    /// <param name="folder">Of the run.</param>
    /// <param name="connection">How to reach its server.</param>
    /// <param name="patience">How long to try.</param>
    /// <param name="warn">Told of what MLflow will never take.</param>
    /// <param name="uri">Of another server, to which the whole run is told; null for the run's own.</param>
    /// <param name="ended">How the run ended, where the caller knows; null to find it in the journal.</param>
    /// <exception cref="IOException">A file of the run folder cannot be read or written.</exception>
    public static async Task<SyncReport> SendAsync(
        RunFolder folder, MlflowConnection connection, TimeSpan patience, Action<string> warn, string? uri = null, string? ended = null)
    {
        if (!IsTracked(folder))
        {
            return new SyncReport(SyncOutcome.NotTracked);
        }

        using var alone = SenderLock.TryTake(folder);
        if (alone is null)
        {
            return new SyncReport(SyncOutcome.Busy, Fault: $"{SenderLock.Holder(folder)} sends it", State: TrackingState.Read(folder.TrackingStateFile));
        }

        var state = TrackingState.Read(folder.TrackingStateFile)!;
        if (uri is not null && TrackingTarget.Parse(uri) is { } target && target.Uri != state.Uri)
        {
            state = new TrackingState(target.Uri, state.Experiment, state.RunName, Guid.NewGuid().ToString("N"), state.StartTime) { ParentRunId = state.ParentRunId };
        }

        using var journal = TrackingJournal.OpenEnded(folder.TrackingFile);
        state = state with { Synced = Math.Min(state.Synced, journal.Length), Sending = Math.Min(state.Sending, journal.Length) };
        Conclude(folder, journal, ended);
        return await SendAsync(folder, state, journal, connection, patience, warn).ConfigureAwait(false);
    }

    /// <summary>Where a run stands, without asking any server.</summary>
    /// <returns>The state, and the bytes of the journal that MLflow lacks; null where the run is not tracked.</returns>
    /// <exception cref="IOException">A file of the run folder cannot be read.</exception>
    public static (TrackingState State, long Pending, string? Status)? Inspect(RunFolder folder)
    {
        if (!IsTracked(folder))
        {
            return null;
        }

        var state = TrackingState.Read(folder.TrackingStateFile)!;
        var history = JournalHistory.Read(folder.TrackingFile);
        return (state, Math.Max(0, history.Length - state.Synced), history.LastStatus);
    }

    /// <summary>Stores the files that are written when a run ends, where they stand in the folder and are newer than what was stored.</summary>
    internal static void StoreWritten(RunFolder folder, IReadOnlyDictionary<string, long> stored, Action<string> store)
    {
        foreach (var name in WrittenAtEnd)
        {
            var file = new FileInfo(Path.Combine(folder.Path, name));
            if (file.Exists && new DateTimeOffset(file.LastWriteTimeUtc).ToUnixTimeMilliseconds() > stored.GetValueOrDefault(name))
            {
                store(name);
            }
        }
    }

    // The sender's lock is free, so that a run which is said to train does so no more.
    private static void Conclude(RunFolder folder, TrackingJournal journal, string? ended)
    {
        var history = journal.History;
        var now = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
        if (history.Artifacts.ContainsKey(Path.GetFileName(folder.ConfigFile)))
        {
            StoreWritten(folder, history.Artifacts, name => journal.Append(new ArtifactEntry(name, now)));
        }

        if (ended is not null && ended != history.LastStatus)
        {
            journal.Append(new StatusEntry(ended, now));
        }
        else if (history.LastStatus is null or TrackedStatus.Running)
        {
            journal.Append(new StatusEntry(TrackedStatus.Killed, history.LastTime == 0 ? now : history.LastTime));
        }
    }

    private static async Task<SyncReport> SendAsync(
        RunFolder folder, TrackingState state, TrackingJournal journal, MlflowConnection connection, TimeSpan patience, Action<string> warn)
    {
        var before = state.Synced;
        string? fault;
        try
        {
            using var store = TrackingSettings.Open(TrackingTarget.Parse(state.Uri)!, connection, warn);
            var sender = new JournalSender(folder, state, store, warn, journal.Sync);
            fault = await ForegroundSender.SendAsync(sender, connection.Retry, patience).ConfigureAwait(false);
            state = sender.State;
        }
        catch (MlflowException e)
        {
            fault = e.Message; // a certificate file cannot be read
        }

        var lines = JournalReader.All(folder.TrackingFile, before).TakeWhile(line => line.End <= state.Synced).Count();
        return new SyncReport(fault is null ? SyncOutcome.Whole : SyncOutcome.Behind, lines, fault, state);
    }
}

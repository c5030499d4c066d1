using System.Globalization;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>
/// The MLflow run that the runs of a sweep are shown under. The sweep's folder holds its journal and its state, as a run folder holds a run's:
/// the command that continues a sweep continues it, and <c>launch mlflow sync --run</c> sends what a lost server missed.
/// </summary>
public static class ParentRun
{
    /// <summary>Finds the parent run of a sweep, or makes it.</summary>
    /// <param name="config">Of any run of the sweep.</param>
    /// <param name="environment">What the environment says.</param>
    /// <param name="folder">Of the sweep.</param>
    /// <param name="parameters">What the sweep is, for its first attempt.</param>
    /// <param name="patience">How long the server may take: the runs wait for the id.</param>
    /// <param name="warn">Told where there is no parent run, or something cannot be told.</param>
    /// <returns>The server's id of the run; null where nothing is tracked, or the server does not answer.</returns>
    public static async Task<string?> OpenAsync(
        RunConfig config, TrackingEnvironment environment, RunFolder folder, IReadOnlyDictionary<string, string> parameters, TimeSpan patience, Action<string> warn)
    {
        // The environment's own run is none that several runs can be written to.
        if (TrackingSettings.Of(config, environment with { RunId = null, RunName = null }, folder) is not { } settings)
        {
            return null;
        }

        try
        {
            using var alone = SenderLock.TryTake(folder) ?? throw new IOException($"'{folder.TrackingLockFile}' is held by another process");
            using var journal = TrackingJournal.OpenEnded(folder.TrackingFile);
            var now = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
            var state = TrackingState.Read(folder.TrackingStateFile) is { } earlier && earlier.Uri == settings.Target.Uri
                ? earlier
                : new TrackingState(settings.Target.Uri, settings.Experiment, Path.GetFileName(folder.Path), Guid.NewGuid().ToString("N"), now)
                {
                    ExperimentId = settings.ExperimentId,
                    ParentRunId = settings.ParentRunId,
                };
            journal.Append(new StatusEntry(TrackedStatus.Running, now));
            journal.Append(new TagsEntry(new Dictionary<string, string>(settings.Tags) { ["moe.sweep_folder"] = Path.GetFullPath(folder.Path) }));
            var told = journal.History.Parameters;
            if (parameters.Where(parameter => !told.ContainsKey(parameter.Key)).ToDictionary() is { Count: > 0 } news)
            {
                journal.Append(new ParametersEntry(news));
            }

            using var timeout = new CancellationTokenSource(patience);
            using var store = TrackingSettings.Open(settings.Target, settings.Connection, warn);
            var sender = new JournalSender(folder, state, store, warn, journal.Sync);
            await sender.SendAsync(timeout.Token).ConfigureAwait(false);
            return sender.State.RunId;
        }
        catch (Exception e) when (e is MlflowException or OperationCanceledException or IOException or UnauthorizedAccessException or System.Text.Json.JsonException)
        {
            // The run may have been made before the connection broke.
            var id = Written(folder, settings.Target.Uri);
            var reason = e is OperationCanceledException ? string.Create(CultureInfo.InvariantCulture, $"{settings.Target.Uri} did not answer within {patience.TotalSeconds:0} s") : e.Message;
            warn(id is null
                ? $"MLflow: the runs of this sweep are shown without a parent run: {reason}"
                : $"MLflow: the sweep's parent run is told later: {reason}");
            return id;
        }
    }

    /// <summary>Tells how a sweep ended, and stores its results.</summary>
    /// <param name="environment">What the environment says.</param>
    /// <param name="folder">Of the sweep.</param>
    /// <param name="finished">Runs that are done.</param>
    /// <param name="results">By metric.</param>
    /// <param name="files">Names of files in the folder.</param>
    /// <param name="exitCode">The sweep's.</param>
    /// <param name="patience">How long the server may take.</param>
    /// <param name="warn">Told what could not be told.</param>
    public static async Task EndAsync(
        TrackingEnvironment environment,
        RunFolder folder,
        int finished,
        IReadOnlyDictionary<string, double> results,
        IReadOnlyList<string> files,
        int exitCode,
        TimeSpan patience,
        Action<string> warn)
    {
        if (!RunSync.IsTracked(folder))
        {
            return;
        }

        try
        {
            using (var journal = TrackingJournal.OpenEnded(folder.TrackingFile))
            {
                var now = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
                if (results.Count > 0)
                {
                    journal.Append(new MetricsEntry(now, finished, results.ToDictionary()));
                }

                foreach (var file in files.Where(file => File.Exists(Path.Combine(folder.Path, file))))
                {
                    journal.Append(new ArtifactEntry(file, now));
                }
            }

            var report = await RunSync.SendAsync(folder, environment.Connection, patience, warn, ended: TrackedStatus.Of(exitCode)).ConfigureAwait(false);
            if (report.Outcome is SyncOutcome.Behind or SyncOutcome.Busy)
            {
                warn($"MLflow lacks the end of the sweep's parent run ({report.Fault}); to send it: {RunSync.Command(folder)}");
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            warn($"MLflow was not told how the sweep ended: {e.Message}");
        }
    }

    private static string? Written(RunFolder folder, string uri)
    {
        try
        {
            return TrackingState.Read(folder.TrackingStateFile) is { } state && state.Uri == uri ? state.RunId : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or System.Text.Json.JsonException)
        {
            return null;
        }
    }
}

using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>
/// The MLflow run that the runs of a sweep are shown under. The sweep's folder holds its journal and its state, as a run folder holds a run's:
/// the command that continues a sweep continues it, and <c>launch mlflow sync --run</c> sends what a lost server missed.
/// </summary>
/// <remarks>From opening to disposal it alone sends that journal: a sync in between would take the sweep for one that was killed.</remarks>
public sealed class ParentRun : IDisposable
{
    private readonly RunFolder _folder;
    private readonly TrackingSettings _settings;
    private readonly IReadOnlyDictionary<string, string> _parameters;
    private readonly Action<string> _warn;
    private HeldJournal? _held;

    private ParentRun(RunFolder folder, TrackingSettings settings, IReadOnlyDictionary<string, string> parameters, Action<string> warn) =>
        (_folder, _settings, _parameters, _warn) = (folder, settings, parameters, warn);

    /// <summary>The server's id of the run; null where the server has not told it yet.</summary>
    public string? RunId => _held?.Sender.State.RunId ?? Written();

    /// <summary>Finds the parent run of a sweep, or makes it, and tries again where the server is away.</summary>
    /// <param name="config">Of any run of the sweep.</param>
    /// <param name="environment">What the environment says.</param>
    /// <param name="folder">Of the sweep.</param>
    /// <param name="parameters">What the sweep is, for its first attempt.</param>
    /// <param name="patience">How long the server may take, or another process that sends the run: the sweep's runs wait for the id.</param>
    /// <param name="warn">Told where the id is not known in time, or something cannot be told.</param>
    /// <returns>Null where nothing is tracked.</returns>
    public static async Task<ParentRun?> OpenAsync(
        RunConfig config, TrackingEnvironment environment, RunFolder folder, IReadOnlyDictionary<string, string> parameters, TimeSpan patience, Action<string> warn)
    {
        // The parent is named after the sweep's folder, and the environment's own run is none that several runs can be written to.
        var ofParent = config with { Tracking = config.Tracking with { RunName = null } };
        if (TrackingSettings.Of(ofParent, environment with { RunId = null, RunName = null }, folder) is not { } settings)
        {
            return null;
        }

        var run = new ParentRun(folder, settings, parameters, warn);
        if (await run.TryBeginAsync(patience).ConfigureAwait(false) is { } fault)
        {
            warn(run.RunId is null
                ? $"MLflow: the runs of this sweep are shown without a parent run: {fault}"
                : $"MLflow: the sweep's parent run is told later: {fault}");
        }

        return run;
    }

    /// <summary>Tells how the sweep ended, and stores its results. Waits for the server as long as an ended run does.</summary>
    /// <param name="finished">Runs that are done.</param>
    /// <param name="results">By metric.</param>
    /// <param name="files">Names of files in the folder.</param>
    /// <param name="exitCode">The sweep's.</param>
    public async Task EndAsync(int finished, IReadOnlyDictionary<string, double> results, IReadOnlyList<string> files, int exitCode)
    {
        try
        {
            if (Held(_settings.FinishWait) is not { } held)
            {
                _warn($"MLflow was not told how the sweep ended: {Busy}; the same command tells it when that has ended");
                return;
            }

            var now = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
            if (results.Count > 0)
            {
                held.Journal.Append(new MetricsEntry(now, finished, results.ToDictionary()));
            }

            foreach (var file in files.Where(file => File.Exists(Path.Combine(_folder.Path, file))))
            {
                held.Journal.Append(new ArtifactEntry(file, now));
            }

            held.Journal.Append(new StatusEntry(TrackedStatus.Of(exitCode), now));
            if (await ForegroundSender.SendAsync(held.Sender, _settings.Connection.Retry, _settings.FinishWait).ConfigureAwait(false) is { } fault)
            {
                _warn($"MLflow lacks the end of the sweep's parent run ({fault}); to send it: {RunSync.Command(_folder)}");
            }
        }
        catch (Exception e) when (DiskFault.IsOne(e) || e is MlflowException)
        {
            _warn($"MLflow was not told how the sweep ended: {e.Message}");
        }
    }

    /// <summary>Lets others send the journal.</summary>
    public void Dispose() => _held?.Dispose();

    private string Busy => $"{SenderLock.Holder(_folder)} sends what the sweep's folder holds";

    // Why the server does not have the run as it stands; null where it has.
    private async Task<string?> TryBeginAsync(TimeSpan patience)
    {
        try
        {
            return Held(patience) is { } held ? await ForegroundSender.SendAsync(held.Sender, _settings.Connection.Retry, patience).ConfigureAwait(false) : Busy;
        }
        catch (Exception e) when (DiskFault.IsOne(e) || e is MlflowException)
        {
            return e.Message;
        }
    }

    // What was another process's at the start of the sweep may be free at its end.
    private HeldJournal? Held(TimeSpan patience)
    {
        if (_held is null && HeldJournal.TryOpen(_folder, _settings, long.MaxValue, patience, DateTimeOffset.UtcNow, _warn) is { } held)
        {
            _held = held;
            held.Journal.Append(new StatusEntry(TrackedStatus.Running, DateTimeOffset.UtcNow.ToUnixTimeMilliseconds()));
            held.Journal.Append(new TagsEntry(new Dictionary<string, string>(_settings.Tags) { ["moe.sweep_folder"] = Path.GetFullPath(_folder.Path) }));
            var told = held.Journal.History.Parameters;
            if (_parameters.Where(parameter => !told.ContainsKey(parameter.Key)).ToDictionary() is { Count: > 0 } news)
            {
                held.Journal.Append(new ParametersEntry(news));
            }
        }

        return _held;
    }

    private string? Written()
    {
        try
        {
            return TrackingState.Read(_folder.TrackingStateFile) is { } state && state.Uri == _settings.Target.Uri ? state.RunId : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}

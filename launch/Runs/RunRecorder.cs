using System.Text.Json;
using Moe.Launch.Supervision;
using Moe.Training.Hosting;

namespace Moe.Launch.Runs;

/// <summary>Keeps run.json and events.jsonl of one run. The launcher alone writes them.</summary>
/// <remarks>
/// Once the run is on its way, a file that cannot be written (a full disk) is said once and passed over: the ranks fail by themselves where it
/// matters, and their account must not be lost over it.
/// </remarks>
internal sealed class RunRecorder
{
    private readonly RunFolder _folder;
    private readonly Action<string> _warn;
    private RunRecord _record;
    private bool _hasWarned;

    /// <param name="folder">The run folder, which exists.</param>
    /// <param name="record">The first state, written at once.</param>
    /// <param name="warn">Told when a file cannot be written.</param>
    /// <exception cref="IOException">The first state cannot be written.</exception>
    public RunRecorder(RunFolder folder, RunRecord record, Action<string> warn)
    {
        _folder = folder;
        _record = record;
        _warn = warn;
        record.Write(_folder.RunFile);
        Event("start", null, $"{record.Mode} on {record.WorldSize} rank(s) over {record.Backend}, attempt {record.Attempt}");
    }

    /// <summary>The state as it stands in run.json.</summary>
    public RunRecord Record => _record;

    /// <summary>Whether the ranks of this attempt have built the model, and taken up its checkpoint.</summary>
    public bool HasBegun => _record.Mesh is not null;

    /// <summary>The ranks have built the model and begin.</summary>
    public void Running(InfoMessage info) => Update(_record with
    {
        Status = _record.Status == "stopping" ? "stopping" : "running",
        Mesh = info.Mesh,
        Parameters = new ParameterCount(info.ParametersTotal, info.ParametersActive),
        ResumedFrom = info.ResumedFrom,
    });

    /// <summary>Someone asked the run to stop.</summary>
    public void Stopping(string reason)
    {
        Update(_record with { Status = "stopping" });
        Event("stop", null, reason);
    }

    /// <summary>All ranks are gone.</summary>
    public void Ended(RunOutcome outcome)
    {
        Event("end", outcome.RootCause?.Failure.Step, outcome.RootCause is { Failure: var failure }
            ? $"exit code {outcome.ExitCode}; {(failure.Rank == RankFailure.OfLauncher ? "launcher" : $"rank {failure.Rank}")}: {failure.What}"
            : $"exit code {outcome.ExitCode}");
        Update(_record with { Status = outcome.Status, End = DateTime.UtcNow, ExitCode = outcome.ExitCode });
    }

    /// <summary>The launcher itself cannot go on.</summary>
    public void Failed(string why, int exitCode)
    {
        Event("end", null, FormattableString.Invariant($"exit code {exitCode}; launcher: {why}"));
        Update(_record with { Status = "failed", End = DateTime.UtcNow, ExitCode = exitCode });
    }

    /// <summary>Adds a line to events.jsonl.</summary>
    public void Event(string kind, long? step, string text) => Write(() => File.AppendAllText(
        _folder.EventsFile, JsonSerializer.Serialize(new RunEvent(DateTime.UtcNow, kind, step, text), RunJson.Default.RunEvent) + "\n"));

    private void Update(RunRecord record)
    {
        _record = record;
        Write(() => record.Write(_folder.RunFile));
    }

    private void Write(Action write)
    {
        try
        {
            write();
        }
        catch (Exception e) when (DiskFault.IsOne(e))
        {
            if (!_hasWarned && Directory.Exists(_folder.Path)) // else FolderWatch has more to say
            {
                _hasWarned = true;
                _warn($"the run's record cannot be kept: {e.Message}");
            }
        }
    }
}

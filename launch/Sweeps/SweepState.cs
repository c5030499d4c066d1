using Moe.Launch.Runs;
using Moe.Training.Hosting;

namespace Moe.Launch.Sweeps;

/// <summary>All points of a sweep and its record on disk. One caller at a time.</summary>
internal sealed class SweepState
{
    private readonly SweepFolder _folder;
    private readonly SweepRequest _request;
    private readonly Action<string> _warn;
    private SweepRecord _record;
    private bool _hasWarned;

    /// <param name="request">What was asked for.</param>
    /// <param name="plan">The points.</param>
    /// <param name="folder">Where the record goes.</param>
    /// <param name="parentRunId">The tracker's run that the points belong to; null where nothing is tracked.</param>
    /// <param name="warn">Told when the record cannot be written.</param>
    public SweepState(SweepRequest request, SweepPlan plan, SweepFolder folder, string? parentRunId, Action<string> warn)
    {
        (_folder, _request, _warn) = (folder, request, warn);
        Points = [.. plan.Points.Select(point => new PointProgress(point, RecordOf(point.Point), point.Config.Train.Steps))];
        _record = new SweepRecord(
            plan.Name, "running", request.ConfigPath ?? "default", request.Overrides, request.Nodes, request.ProcessesPerNode, plan.Backend, request.Metric,
            request.Maximize ? "max" : "min", Environment.ProcessId, Environment.MachineName, DateTime.UtcNow, [])
        {
            ParentRunId = parentRunId,
        };
    }

    public IReadOnlyList<PointProgress> Points { get; }

    /// <summary>Groups of finished points, the best first.</summary>
    public IReadOnlyList<GroupResult> Results => SweepResults.Of(Points.Select(point => point.Record), _request.Maximize);

    /// <summary>Whether a point is to be run by this command.</summary>
    public bool IsDue(PointProgress point) => point.Record.Status is PointStatus.Waiting or PointStatus.Stopped || (point.Record.Status == PointStatus.Failed && _request.RetryFailed);

    /// <summary>Writes sweep.json as things stand.</summary>
    public void Save()
    {
        try
        {
            (_record with { Points = [.. Points.Select(point => point.Record)], Results = Results is { Count: > 0 } results ? results : null }).Write(_folder.RecordFile);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (!_hasWarned)
            {
                _hasWarned = true;
                _warn($"the sweep's record cannot be kept: {e.Message}");
            }
        }
    }

    /// <summary>Writes sweep.json for the last time.</summary>
    public void End(int exitCode)
    {
        var status = exitCode switch
        {
            ExitCodes.Done => "done",
            ExitCodes.Stopped => "stopped",
            > 128 => "interrupted",
            _ => "failed",
        };
        _record = _record with { Status = status, End = DateTime.UtcNow, ExitCode = exitCode };
        Save();
    }

    // The run folder knows best how its run ended; the sweep's own record knows of points that failed before they had one.
    private PointRecord RecordOf(SweepPoint point)
    {
        var before = _folder.Earlier?.Points.FirstOrDefault(earlier => earlier.Name == point.Name);
        var fresh = before ?? new PointRecord(point.Name, point.Group, point.Choices.ToDictionary(), point.Seed, PointStatus.Waiting);
        var run = RunRecord.Read(_folder.RunOf(point).RunFile);
        if (run is null)
        {
            return fresh with { Status = before?.Status == PointStatus.Failed ? PointStatus.Failed : PointStatus.Waiting };
        }

        var status = run.Status switch
        {
            "done" => PointStatus.Done,
            "failed" => PointStatus.Failed,
            _ => PointStatus.Stopped,
        };
        var curve = SweepCurve.Read(_folder.RunOf(point).MetricsFile, _request.Metric);
        return fresh with
        {
            Status = status,
            ExitCode = run.ExitCode,
            Step = curve.Steps.Count > 0 ? (long)curve.Steps[^1] : 0,
            Loss = curve.Losses.Count > 0 ? curve.Losses[^1] : null,
            Value = curve.Last,
        };
    }
}

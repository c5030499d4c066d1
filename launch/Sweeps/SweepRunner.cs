using System.Globalization;
using System.Threading.Channels;
using Moe.Launch.Runs;
using Moe.Training.Hosting;

namespace Moe.Launch.Sweeps;

/// <summary>Runs the points that are due, so many at a time, each under a launcher of its own, until all have ended or a stop is asked for.</summary>
/// <remarks>Everything that changes a point or the view goes through one lock; nothing that takes long happens inside.</remarks>
internal sealed class SweepRunner(SweepRequest request, SweepPlan plan, SweepFolder folder, SweepState state, ISweepView view, LaunchHost host)
{
    // After the second signal a launcher has this long to end its ranks.
    private static readonly TimeSpan LeavePatience = TimeSpan.FromSeconds(15);

    private readonly Lock _lock = new();
    private readonly List<SweepChild> _children = [];
    private bool _stopping;
    private int? _leaveCode;

    /// <summary>Runs to the end.</summary>
    /// <param name="environment">Variables of the launchers that differ from ours.</param>
    /// <returns>The sweep's exit code.</returns>
    public async Task<int> RunAsync(IReadOnlyDictionary<string, string?> environment)
    {
        var due = Channel.CreateUnbounded<PointProgress>();
        foreach (var point in state.Points.Where(state.IsDue))
        {
            due.Writer.TryWrite(point);
        }

        due.Writer.Complete();
        state.Save();
        using (new StopSignals(Stop, Leave, isSlurmTask: host.Variable("SLURM_JOB_ID") is { Length: > 0 }))
        {
            await Task.WhenAll(Enumerable.Range(0, request.Parallel).Select(_ => WorkAsync(due.Reader, environment))).ConfigureAwait(false);
        }

        var code = ExitCode();
        state.End(code);
        return code;
    }

    private async Task WorkAsync(ChannelReader<PointProgress> due, IReadOnlyDictionary<string, string?> environment)
    {
        while (due.TryRead(out var point))
        {
            using var child = Begin(point, environment);
            if (child is null)
            {
                return;
            }

            var code = await child.RunAsync(folder.LogOf(point.Point.Point), message => Heard(point, message)).ConfigureAwait(false);
            Ended(point, child, code);
        }
    }

    private SweepChild? Begin(PointProgress point, IReadOnlyDictionary<string, string?> environment)
    {
        lock (_lock)
        {
            if (_stopping)
            {
                return null;
            }

            var child = SweepChild.Start(host, Arguments(point.Point.Point), new Dictionary<string, string?>(environment)
            {
                // The runs share the machine: each counts its part of the cores as all there are.
                ["DOTNET_PROCESSOR_COUNT"] = Math.Max(1, Environment.ProcessorCount / request.Parallel).ToString(CultureInfo.InvariantCulture),
            });
            _children.Add(child);
            point.Begin();
            state.Save();
            view.Changed(point);
            return child;
        }
    }

    private void Heard(PointProgress point, System.Text.Json.JsonElement message)
    {
        lock (_lock)
        {
            if (point.Heard(message, request.Metric))
            {
                view.Progressed(point);
            }
        }
    }

    private void Ended(PointProgress point, SweepChild child, int code)
    {
        lock (_lock)
        {
            _children.Remove(child);
            point.End(code, code switch
            {
                ExitCodes.Done => PointStatus.Done,
                ExitCodes.Stopped => PointStatus.Stopped,
                > 128 when _stopping => PointStatus.Stopped, // its launcher may not yet have been listening
                _ => PointStatus.Failed,
            });
            if (code > 128 && AbandonedRuns.Settle(folder.RunOf(point.Point.Point)) is { } found)
            {
                view.Notice(found); // its launcher was killed
            }

            if (point.Record is { Status: PointStatus.Failed } failed && LastWords(folder.LogOf(point.Point.Point)) is { } words && failed.Error!.StartsWith("its launcher", StringComparison.Ordinal))
            {
                point.Record = failed with { Error = words };
            }

            TakeRows(point);
            state.Save();
            view.Changed(point);
        }
    }

    // The run's own file has every row, also of attempts before this one.
    private void TakeRows(PointProgress point)
    {
        var curve = SweepCurve.Read(folder.RunOf(point.Point.Point).MetricsFile, request.Metric);
        if (curve.Steps.Count > 0)
        {
            point.Record = point.Record with { Step = (long)curve.Steps[^1], Loss = curve.Losses[^1], Value = curve.Last };
        }
    }

    private void Stop(string signal)
    {
        lock (_lock)
        {
            _stopping = true;
            _children.ForEach(child => child.Interrupted());
            view.Notice($"{signal}: stopping {_children.Count} run(s) after their step, with checkpoints; once more leaves at once");
        }
    }

    private void Leave(string signal, int number)
    {
        lock (_lock)
        {
            if (_leaveCode is not null)
            {
                return;
            }

            _leaveCode = ExitCodes.Signalled(number);
            _children.ForEach(child => child.Interrupted());
            view.Notice($"{signal} again: ending {_children.Count} run(s) at once");
        }

        _ = Task.Delay(LeavePatience).ContinueWith(
            _ =>
            {
                lock (_lock)
                {
                    _children.ForEach(child => child.Kill());
                }
            },
            TaskScheduler.Default);
    }

    // What is stopped or waits continues with the same command, so that comes first. Runs that all are done but have nothing to be ranked by are no sweep that went well.
    private int ExitCode()
    {
        if (_leaveCode is { } code)
        {
            return code;
        }

        return _stopping || state.Points.Any(point => point.Record.Status is PointStatus.Stopped or PointStatus.Waiting)
            ? ExitCodes.Stopped
            : state.Results.Count == 0 || state.Points.Any(point => point.Record.Status == PointStatus.Failed) ? ExitCodes.Failed : ExitCodes.Done;
    }

    private IReadOnlyList<string> Arguments(SweepPoint point) =>
    [
        "--config", folder.ConfigOf(point), "--run-dir", folder.RunOf(point).Path,
        "--nodes", Text(request.Nodes), "--procs-per-node", Text(request.ProcessesPerNode), "--backend", plan.Backend, "--ui", Terminal.RunViews.Json,
    ];

    // The headline of what its launcher said last.
    private static string? LastWords(string log)
    {
        try
        {
            return File.Exists(log) ? File.ReadLines(log).LastOrDefault(line => line.StartsWith('✗') || line.StartsWith("x ", StringComparison.Ordinal))?[2..] : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}

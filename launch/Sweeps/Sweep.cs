using Moe.Launch.Runs;
using Moe.Launch.Terminal;
using Moe.Training;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Launch.Sweeps;

/// <summary>A sweep from the command line to the exit code: check all, open the folder, run what is due, compare.</summary>
internal static class Sweep
{
    /// <summary>Runs to the end.</summary>
    /// <returns>The exit code: done, failed where a run has, or stopped.</returns>
    /// <exception cref="ConfigException">A point is faulty; nothing was started or written.</exception>
    /// <exception cref="LaunchException">The machine, the command line or the folder will not do; nothing was started.</exception>
    public static async Task<int> ExecuteAsync(SweepRequest request, LaunchHost host)
    {
        var plan = SweepPlan.Make(request, host);
        var error = host.Screen.Error;
        foreach (var warning in plan.Warnings)
        {
            error.WriteLine($"warning: {warning}");
        }

        var path = Path.Combine(Repository.RunsFolder(host.WorkingDirectory), "sweeps", plan.Name);
        if (request.ListOnly)
        {
            host.Screen.Output.WriteLine($"{plan.Points.Count} run(s) of {request.WorldSize} rank(s), {request.Parallel} at a time, in {host.Shorten(path)}:");
            foreach (var (point, _, _) in plan.Points)
            {
                host.Screen.Output.WriteLine($"  {point.Name}");
            }

            return ExitCodes.Done;
        }

        using var folder = SweepFolder.Open(path, plan);
        foreach (var (point, _, _) in plan.Points)
        {
            if (AbandonedRuns.Settle(folder.RunOf(point)) is { } finding)
            {
                error.WriteLine($"found: {finding}");
            }
        }

        // Two runs that start together must not prepare the same text at once.
        foreach (var data in plan.Points.Select(point => point.Config.Data).Distinct())
        {
            DomainTokens.Prepare(data, error.WriteLine);
        }

        using var tracking = await SweepTracking.OpenAsync(request, plan, folder.Path, host).ConfigureAwait(false);
        var state = new SweepState(request, plan, folder, tracking.ParentRunId, error.WriteLine);
        var code = await RunAsync(request, plan, folder, state, tracking, host).ConfigureAwait(false);
        Conclude(request, folder, state, code, host);
        await tracking.EndAsync(folder, state, code).ConfigureAwait(false);
        return code;
    }

    private static async Task<int> RunAsync(SweepRequest request, SweepPlan plan, SweepFolder folder, SweepState state, SweepTracking tracking, LaunchHost host)
    {
        var (screen, due) = (host.Screen, state.Points.Count(state.IsDue));
        screen.Error.WriteLine(
            $"sweep {plan.Name}: {plan.Points.Count} run(s) of {request.WorldSize} rank(s) over {plan.Backend}, {due} to run, {request.Parallel} at a time, in {host.Shorten(folder.Path)}");
        var failed = state.Points.Count(point => point.Record.Status == PointStatus.Failed);
        if (failed > 0 && !request.RetryFailed)
        {
            screen.Error.WriteLine($"{failed} run(s) failed before and are left alone; --retry-failed runs them again");
        }

        var view = View(request, screen);
        await using (view.ConfigureAwait(false))
        {
            view.Started(state.Points);
            return await new SweepRunner(request, plan, folder, state, view, host).RunAsync(tracking.Variables).ConfigureAwait(false);
        }
    }

    private static ISweepView View(SweepRequest request, Screen screen) => request.Ui switch
    {
        RunViews.Json => new JsonSweepView(screen.Output, screen.Error, request.Metric),
        RunViews.Auto or RunViews.Live when screen.IsInteractive && screen.Verbosity != Verbosity.Quiet => new LiveSweepView(new LiveRegion(screen), request.Metric, screen.Glyphs),
        _ => new PlainSweepView(screen.Verbosity == Verbosity.Quiet ? TextWriter.Null : screen.Output, request.Metric),
    };

    private static void Conclude(SweepRequest request, SweepFolder folder, SweepState state, int code, LaunchHost host)
    {
        var results = state.Results;
        var people = request.Ui == RunViews.Json ? host.Screen.Error : host.Screen.Output;
        foreach (var line in SweepTable.Text(results, request, host.Screen.Width - 1, host.Screen.Glyphs))
        {
            people.WriteLine(line);
        }

        try
        {
            File.WriteAllText(folder.TableFile, SweepTable.Markdown(results, state.Points, request));
            var curves = state.Points.ToDictionary(point => point.Record.Name, point => SweepCurve.Read(folder.RunOf(point.Point.Point).MetricsFile, request.Metric));
            File.WriteAllText(folder.PlotFile, SweepPlot.Draw(request, state.Points, curves));
            people.WriteLine($"table {host.Shorten(folder.TableFile)}  plot {host.Shorten(folder.PlotFile)}  record {host.Shorten(folder.RecordFile)}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            host.Screen.Error.WriteLine($"table and plot cannot be written: {e.Message}");
        }

        foreach (var failed in state.Points.Where(point => point.Record.Status == PointStatus.Failed))
        {
            host.Screen.WriteHeadline($"{failed.Record.Name} failed: {failed.Record.Error}");
            host.Screen.WriteParagraph("log", $"{host.Shorten(folder.LogOf(failed.Point.Point))}, {host.Shorten(folder.RunOf(failed.Point.Point).LogsFolder)}");
        }

        if (state.Points.Any(point => point.Record.Status == PointStatus.Failed))
        {
            host.Screen.WriteParagraph("try", "the same command with --retry-failed, once the cause is mended");
        }

        if (code == ExitCodes.Stopped)
        {
            host.Screen.Error.WriteLine($"stopped with {state.Points.Count(state.IsDue)} run(s) to do; the same command continues");
        }
        else if (state.Points.Where(point => point.Record is { Status: PointStatus.Done, Value: null }).Select(point => point.Record.Name).ToList() is { Count: > 0 } unranked)
        {
            host.Screen.WriteHeadline(results.Count == 0
                ? $"no run has {request.Metric} in its metrics.jsonl, so that none is ranked"
                : $"{unranked.Count} run(s) have no {request.Metric} in their metrics.jsonl and are not ranked: {string.Join("; ", unranked.Take(3))}{(unranked.Count > 3 ? " ..." : "")}");
        }
    }
}

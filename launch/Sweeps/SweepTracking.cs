using System.Globalization;
using Moe.Training.Hosting;
using Moe.Training.Tracking;

namespace Moe.Launch.Sweeps;

/// <summary>Holds the runs of a sweep together in MLflow: they are shown under one parent run, which gets the results.</summary>
/// <remarks>Until it is disposed of, no other process sends the parent run.</remarks>
internal sealed class SweepTracking : IDisposable
{
    // The first run waits for the parent's id.
    private static readonly TimeSpan OpenPatience = TimeSpan.FromSeconds(10);

    private readonly ParentRun? _parent;

    private SweepTracking(ParentRun? parent) => (_parent, ParentRunId) = (parent, parent?.RunId);

    /// <summary>The server's id of the parent run; null where nothing is tracked, or the server has not told it.</summary>
    public string? ParentRunId { get; }

    /// <summary>What the launchers of the points are given: the parent, and no run of their own from our environment.</summary>
    public IReadOnlyDictionary<string, string?> Variables => ParentRunId is null ? new Dictionary<string, string?>() : new Dictionary<string, string?>
    {
        ["MLFLOW_PARENT_RUN_ID"] = ParentRunId,
        ["MLFLOW_RUN_ID"] = null,
        ["MLFLOW_RUN_NAME"] = null,
    };

    /// <summary>Finds the parent run or makes it, where the configuration or the environment names a tracker.</summary>
    public static async Task<SweepTracking> OpenAsync(SweepRequest request, SweepPlan plan, string folder, LaunchHost host)
    {
        Action<string> warn = line => host.Screen.Error.WriteLine($"warning: {line}");
        var environment = TrackingEnvironment.Read(host.Variable);
        var parameters = request.Axes.ToDictionary(axis => $"grid.{axis.Key}", axis => string.Join(", ", axis.Values));
        if (request.Seeds.Count > 0)
        {
            parameters["seeds"] = string.Join(", ", request.Seeds.Select(seed => seed.ToString(CultureInfo.InvariantCulture)));
        }

        parameters["metric"] = request.Metric;
        parameters["goal"] = request.Maximize ? "max" : "min";
        return new SweepTracking(
            await ParentRun.OpenAsync(plan.Points[0].Config, environment, new RunFolder(folder), parameters, OpenPatience, warn).ConfigureAwait(false));
    }

    /// <summary>Tells how the sweep ended, with its table, plot and record.</summary>
    public async Task EndAsync(SweepFolder folder, SweepState state, int exitCode)
    {
        if (_parent is null)
        {
            return;
        }

        var results = new Dictionary<string, double>
        {
            ["sweep/finished"] = state.Points.Count(point => point.Record.Status == PointStatus.Done),
            ["sweep/failed"] = state.Points.Count(point => point.Record.Status == PointStatus.Failed),
        };
        if (state.Results is [var best, ..])
        {
            results["sweep/best"] = best.Mean;
        }

        string[] files = [.. new[] { folder.TableFile, folder.PlotFile, folder.RecordFile }.Select(file => Path.GetFileName(file))];
        await _parent.EndAsync((int)results["sweep/finished"], results, files, exitCode).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public void Dispose() => _parent?.Dispose();
}

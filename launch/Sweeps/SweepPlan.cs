using System.Text.RegularExpressions;
using Moe.Launch.Checks;
using Moe.Launch.Commands;
using Moe.Training;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Launch.Sweeps;

/// <summary>A point with its whole configuration.</summary>
internal sealed record PlannedPoint(SweepPoint Point, RunConfig Config, string Yaml);

/// <summary>All runs of a sweep, checked before the first of them starts.</summary>
/// <param name="Name">Name of the sweep.</param>
/// <param name="Backend"><c>mpi</c> or <c>gloo</c>.</param>
/// <param name="Points">In the order in which they are run.</param>
/// <param name="Warnings">Of all points, each once.</param>
internal sealed partial record SweepPlan(string Name, string Backend, IReadOnlyList<PlannedPoint> Points, IReadOnlyList<string> Warnings)
{
    private static readonly ConfigOrigin Grid = new("--grid"), Metric = new("--metric");

    /// <summary>Reads and checks every point.</summary>
    /// <exception cref="ConfigException">Lists every fault of every point; one that all of them have is told once.</exception>
    /// <exception cref="LaunchException">The command line will not do.</exception>
    public static SweepPlan Make(SweepRequest request, LaunchHost host)
    {
        RefuseAxes(request);
        var path = DefaultConfig.Resolve(request.ConfigPath, host);
        var points = SweepPoint.All(request.Axes, request.Seeds);
        var faults = new List<(SweepPoint Point, ConfigFault Fault)>();
        var planned = new List<PlannedPoint>();
        var warnings = new List<string>();
        foreach (var point in points)
        {
            try
            {
                var resolved = Preflight.Configuration(path, [.. request.Overrides, .. point.Overrides], request.Nodes, request.ProcessesPerNode);
                planned.Add(new PlannedPoint(point, resolved.Config, ConfigYaml.Write(resolved.Config)));
                warnings.AddRange(resolved.Warnings.Select(warning => warning.ToString()));
                faults.AddRange(MetricFaults(request, resolved).Select(fault => (point, fault)));
            }
            catch (ConfigException e)
            {
                faults.AddRange(e.Faults.Select(fault => (point, fault)));
            }
        }

        if (faults.Count > 0)
        {
            throw new ConfigException([.. Merged(faults, points, request)]);
        }

        RefuseEqualPoints(planned);
        var name = request.Name ?? NameOf(planned[0].Config.Run.Name, request.Axes);
        return new SweepPlan(name, Preflight.Backend(request.Backend, planned[0].Config.Parallel.Device, request.WorldSize, host), planned, [.. warnings.Distinct()]);
    }

    private static void RefuseAxes(SweepRequest request)
    {
        if (request.Axes.Count == 0 && request.Seeds.Count == 0)
        {
            throw new LaunchException(ExitCodes.Usage, "a sweep needs something that differs from run to run", "--grid optimizer.learning_rate=1e-3,3e-3, or --seeds 1,2,3");
        }

        if (request.Axes.GroupBy(axis => axis.Key).FirstOrDefault(group => group.Count() > 1) is { Key: var twice })
        {
            throw new LaunchException(ExitCodes.Usage, $"--grid {twice} is given twice", $"--grid {twice}=value,value,... once, with all values");
        }

        if (request.Seeds.Count > 0 && request.Axes.Any(axis => axis.Key == "run.seed"))
        {
            throw new LaunchException(ExitCodes.Usage, "--seeds and --grid run.seed both set the seed", "--seeds alone, which gives the spread over seeds");
        }

        if (request.Name is { } name && !PlainName().IsMatch(name))
        {
            throw new LaunchException(ExitCodes.Usage, $"--name {name} cannot be a folder's name here", "letters, digits, '.', '_' and '-', at most 64, the first a letter or digit");
        }
    }

    private static IEnumerable<ConfigFault> MetricFaults(SweepRequest request, ResolvedConfig resolved)
    {
        var known = MetricKeys.Of(resolved.Config);
        if (known.Contains(request.Metric))
        {
            yield break;
        }

        var train = resolved.Config.Train;
        if (train.EvalEvery == 0 && MetricKeys.Of(resolved.Config with { Train = train with { EvalEvery = 1 } }).Contains(request.Metric))
        {
            yield return resolved.Fault("train.eval_every", $"train.eval_every is 0, so that no run has {request.Metric} to be ranked by", "--set train.eval_every=100, or --metric train/loss");
            yield break;
        }

        var nearest = MetricKeys.Nearest(request.Metric, known);
        yield return new ConfigFault(
            Metric, "", $"'{request.Metric}' is no key of metrics.jsonl",
            nearest.Count > 0 ? $"did you mean {string.Join(" or ", nearest)}?" : $"the keys are {string.Join(", ", known)}");
    }

    // A fault of all points stands once, without a point; others name the points that have them.
    private static IEnumerable<ConfigFault> Merged(List<(SweepPoint Point, ConfigFault Fault)> faults, IReadOnlyList<SweepPoint> points, SweepRequest request)
    {
        foreach (var group in faults.GroupBy(entry => entry.Fault.ToString()))
        {
            var fault = group.First().Fault;
            if (fault.Origin == ConfigOrigin.Set && request.Axes.Any(axis => fault.Key == axis.Key || fault.What.Contains(axis.Key, StringComparison.Ordinal)))
            {
                fault = fault with { Origin = Grid };
            }

            var names = group.Select(entry => entry.Point.Name).Distinct().ToList();
            var rest = names.Count > 2 ? $" and {names.Count - 2} more" : "";
            yield return names.Count == points.Count ? fault : fault with { What = $"{fault.What} (in {string.Join(" and ", names.Take(2))}{rest})" };
        }
    }

    private static void RefuseEqualPoints(List<PlannedPoint> planned)
    {
        var equal = planned.GroupBy(point => point.Yaml).FirstOrDefault(group => group.Count() > 1)?.ToList();
        if (equal is not null)
        {
            throw new LaunchException(ExitCodes.Usage, $"the points {equal[0].Point.Name} and {equal[1].Point.Name} are the same run", "different values in --grid and --seeds");
        }
    }

    private static string NameOf(string run, IReadOnlyList<GridAxis> axes)
    {
        var labels = axes.Count == 0 ? "seeds" : string.Join('-', SweepPoint.Labels(axes).Values);
        var name = $"{run}-{labels}";
        return name.Length > 64 ? name[..64] : name;
    }

    [GeneratedRegex("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    private static partial Regex PlainName();
}

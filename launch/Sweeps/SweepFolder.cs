using System.Text;
using Moe.Launch.Runs;
using Moe.Training.Configuration;
using Moe.Training.Hosting;

namespace Moe.Launch.Sweeps;

/// <summary>The folder of a sweep, which this launcher holds: its record and results, each point's configuration and log, and one run folder a point.</summary>
internal sealed class SweepFolder : IDisposable
{
    private readonly FolderLock _lock;

    private SweepFolder(string path, FolderLock held, SweepRecord? earlier)
    {
        Path = path;
        Earlier = earlier;
        _lock = held;
    }

    public string Path { get; }

    /// <summary>As the command before this one left it; null for a new sweep.</summary>
    public SweepRecord? Earlier { get; }

    public string RecordFile => Inside("sweep.json");

    /// <summary>The results for people, in Markdown.</summary>
    public string TableFile => Inside("table.md");

    /// <summary>Loss curves, and the metric by grid value.</summary>
    public string PlotFile => Inside("sweep.svg");

    /// <summary>A point's run folder.</summary>
    public RunFolder RunOf(SweepPoint point) => new(Inside(point.Name));

    /// <summary>A point's whole configuration, which its run is started with.</summary>
    public string ConfigOf(SweepPoint point) => System.IO.Path.Combine(Inside("configs"), point.Name + ".yaml");

    /// <summary>What a point's launcher prints to standard error.</summary>
    public string LogOf(SweepPoint point) => System.IO.Path.Combine(Inside("logs"), point.Name + ".log");

    /// <summary>Opens a new folder, or one whose sweep the plan continues.</summary>
    /// <exception cref="LaunchException">Another launcher holds it, it cannot be made, or it holds another sweep.</exception>
    public static SweepFolder Open(string path, SweepPlan plan)
    {
        try
        {
            var isForeign = Directory.Exists(path) && !File.Exists(System.IO.Path.Combine(path, "sweep.json"))
                && Directory.EnumerateFileSystemEntries(path).Any(entry => System.IO.Path.GetFileName(entry) != "sweep.lock");
            if (isForeign)
            {
                throw new LaunchException(ExitCodes.Usage, $"'{path}' holds something else than a sweep (it has no sweep.json)", "another --name");
            }

            Directory.CreateDirectory(path);
            var held = FolderLock.TryTake(System.IO.Path.Combine(path, "sweep.lock"))
                ?? throw new LaunchException(ExitCodes.Preflight, $"the sweep in '{path}' is under way: another launcher works in it", "wait for its end, stop it with Ctrl-C, or take another --name");
            var folder = new SweepFolder(path, held, SweepRecord.Read(System.IO.Path.Combine(path, "sweep.json")));
            folder.RefuseOtherSweep(plan);
            Directory.CreateDirectory(folder.Inside("configs"));
            Directory.CreateDirectory(folder.Inside("logs"));
            foreach (var (point, _, yaml) in plan.Points)
            {
                OutputFile.Write(folder.ConfigOf(point), Encoding.UTF8.GetBytes(yaml));
            }

            return folder;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new LaunchException(ExitCodes.Preflight, $"the sweep's folder '{path}' cannot be used: {e.Message}", DiskFault.Remedy(e) ?? "a runs folder that this user can write; launch doctor");
        }
    }

    /// <summary>Lets others have the folder.</summary>
    public void Dispose() => _lock.Dispose();

    // A finished point is kept, and an interrupted one resumed, only where it still is the same run. Further values and seeds may join.
    private void RefuseOtherSweep(SweepPlan plan)
    {
        if (Earlier is not null && Earlier.Points.FirstOrDefault(before => plan.Points.All(point => point.Point.Name != before.Name)) is { } missing)
        {
            throw new LaunchException(
                ExitCodes.Usage, $"'{Path}' holds a sweep with the point {missing.Name}, which this grid has not", "another --name, or the same --grid and --seeds (further values may be added)");
        }

        foreach (var (point, config, yaml) in plan.Points)
        {
            var file = ConfigOf(point);
            if (!File.Exists(file) || !Directory.Exists(RunOf(point).Path) || File.ReadAllText(file) == yaml)
            {
                continue;
            }

            var differences = ConfigDifference.Between(ConfigReader.Read(file, []).Config, config);
            if (differences.Count > 0)
            {
                throw new LaunchException(
                    ExitCodes.Usage, $"'{Path}' holds the point {point.Name} of another configuration: {ConfigDifference.Text(differences)}", "another --name, or the configuration as it was");
            }
        }
    }

    private string Inside(string name) => System.IO.Path.Combine(Path, name);
}

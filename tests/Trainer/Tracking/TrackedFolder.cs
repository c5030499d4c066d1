using System.Globalization;
using System.Text.Json.Nodes;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using Moe.Training.Tracking;

namespace Moe.Tests.Tracking;

/// <summary>A run folder whose run is tracked without any training, with pauses so short that tests need not wait.</summary>
internal sealed class TrackedFolder : IDisposable
{
    private readonly DirectoryInfo _root = Directory.CreateTempSubdirectory("moe-tracking-");

    public TrackedFolder(string uri)
    {
        Uri = uri;
        Run = new RunFolder(Path.Combine(_root.FullName, "run-1"));
        Directory.CreateDirectory(Run.Path);
        File.WriteAllText(Run.ConfigFile, "run:\n  seed: 1\n");
    }

    public string Root => _root.FullName;

    public string Uri { get; set; }

    public RunFolder Run { get; }

    public RunConfig Config { get; set; } = new() { Run = new() { Name = "tiny" }, Tracking = new() { SystemMetrics = false, FinishWaitSeconds = 20 } };

    public MlflowConnection Connection { get; set; } = new()
    {
        RequestTimeout = TimeSpan.FromSeconds(5),
        Retry = new RetryPolicy { First = TimeSpan.FromMilliseconds(20), Longest = TimeSpan.FromMilliseconds(100) },
    };

    public Dictionary<string, string?> Variables { get; } = [];

    /// <summary>All that a user was told.</summary>
    public List<string> Warnings { get; } = [];

    public TrackingState State => TrackingState.Read(Run.TrackingStateFile)!;

    public TrackingEnvironment Environment => TrackingEnvironment.Read(name => Variables.GetValueOrDefault(name)) with { Uri = Uri, Connection = Connection };

    public RunTracker Open(long lastStep = 0, int ranks = 1)
    {
        var environment = Environment;
        var settings = TrackingSettings.Of(Config, environment, Run);
        var info = new InfoMessage(1000, 500, $"replica 1 x expert {ranks}", lastStep, 100);
        var description = RunDescription.Of(Config, info, "single", [.. Enumerable.Repeat("here", ranks)], environment, Run);
        return RunTracker.Open(Run, settings, description, lastStep, Warn)!;
    }

    public SyncReport Sync(double seconds = 20, string? uri = null) =>
        RunSync.SendAsync(Run, Connection, TimeSpan.FromSeconds(seconds), Warn, uri).GetAwaiter().GetResult();

    /// <summary>Takes what a user is told, from any thread.</summary>
    public void Warn(string text)
    {
        lock (Warnings)
        {
            Warnings.Add(text);
        }
    }

    /// <summary>Every byte below the folder as text, for what must not be in it.</summary>
    public string AllText() => string.Concat(Directory.EnumerateFiles(Root, "*", SearchOption.AllDirectories).Select(File.ReadAllText));

    public void Dispose() => _root.Delete(recursive: true);
}

/// <summary>Rows that a training might tell.</summary>
internal static class Rows
{
    /// <summary>Tells steps <paramref name="from"/> to <paramref name="to"/>; the loss of a step is 10 / step.</summary>
    public static void Tell(RunTracker tracker, int from, int to)
    {
        for (var step = from; step <= to; step++)
        {
            Tell(tracker, step, ("train/loss", 10.0 / step), ("perf/step_ms", 3 * step));
        }
    }

    public static void Tell(RunTracker tracker, int step, params (string Key, double Value)[] values)
    {
        var row = new Dictionary<string, double> { ["step"] = step };
        foreach (var (key, value) in values)
        {
            row[key] = value;
        }

        tracker.Observe(new MetricsMessage(row));
    }

    /// <summary>The points of a key in the order of the steps.</summary>
    public static (long Step, double Value)[] Of(FakeRun run, string key) =>
        [.. run.Points.Where(point => point.Key == key).OrderBy(point => point.Step).Select(point => (point.Step, point.Value))];

    /// <summary>What <see cref="Tell(RunTracker, int, int)"/> told of the loss.</summary>
    public static (long Step, double Value)[] Losses(int to) => [.. Enumerable.Range(1, to).Select(step => ((long)step, 10.0 / step))];

    /// <summary>Points of a file store's metric.</summary>
    public static (long Step, double Value)[] OfFile(string path) => [.. File.ReadLines(path).Select(line => line.Split(' '))
        .Select(fields => (long.Parse(fields[2], CultureInfo.InvariantCulture), Parse(fields[1]))).OrderBy(point => point.Item1)];

    private static double Parse(string text) => text switch
    {
        "nan" => double.NaN,
        "inf" => double.PositiveInfinity,
        "-inf" => double.NegativeInfinity,
        _ => double.Parse(text, CultureInfo.InvariantCulture),
    };

    /// <summary>Every entry of a journal.</summary>
    public static JsonNode[] Journal(RunFolder folder) => [.. File.ReadLines(folder.TrackingFile).Select(line => JsonNode.Parse(line)!)];
}

using System.Globalization;

namespace Moe.Training.Hosting;

/// <summary>The files of one run by name. The launcher and the ranks of a run agree on them through this record alone.</summary>
/// <param name="Path">The run folder itself.</param>
public sealed record RunFolder(string Path)
{
    /// <summary>State of the run, rewritten by the launcher at each change.</summary>
    public string RunFile => Inside("run.json");

    /// <summary>The resolved configuration that the ranks read.</summary>
    public string ConfigFile => Inside("config.yaml");

    /// <summary>Copy of the refined schedule that the ranks follow; only there where one is.</summary>
    public string ScheduleFile => Inside(Training.ScheduleFile.FileName);

    /// <summary>One JSON object a logged step, written by rank 0.</summary>
    public string MetricsFile => Inside("metrics.jsonl");

    /// <summary>Load of every expert at each logged step, written by rank 0.</summary>
    public string ExpertsFile => Inside("experts.jsonl");

    /// <summary>Of each evaluation, loss and load of every expert by domain, written by rank 0.</summary>
    public string DomainsFile => Inside("domains.jsonl");

    /// <summary>What each rank measured of itself at each logged step, written by rank 0.</summary>
    public string RanksFile => Inside("ranks.jsonl");

    /// <summary>Where each value of the resolved configuration came from, written by the launcher.</summary>
    public string ConfigOriginFile => Inside("config.origin.json");

    /// <summary>What MLflow is to know, one JSON object a line, written by rank 0; only there where the run is tracked.</summary>
    public string TrackingFile => Inside("tracking.jsonl");

    /// <summary>Which MLflow run this is and how far it has been told; only there where the run is tracked.</summary>
    public string TrackingStateFile => Inside("mlflow.json");

    /// <summary>Held by the process that sends <see cref="TrackingFile"/>.</summary>
    public string TrackingLockFile => Inside("mlflow.lock");

    /// <summary>One JSON object an event, written by the launcher.</summary>
    public string EventsFile => Inside("events.jsonl");

    /// <summary>What the trained model wrote, written by the launcher at the end.</summary>
    public string SampleFile => Inside("sample.txt");

    /// <summary>The page that shows all of this, written at the run's end.</summary>
    public string ReportFile => Inside("report.html");

    /// <summary>Where a step goes, as a table; only there where steps were profiled.</summary>
    public string ProfileFile => Inside("profile.txt");

    /// <summary>Folder of the ranks' output.</summary>
    public string LogsFolder => Inside("logs");

    /// <summary>Output of the started programs before (or without) a rank log: the .NET host's own errors, mpirun's words.</summary>
    public string LauncherLogFile => System.IO.Path.Combine(LogsFolder, "launcher.log");

    /// <summary>The same of another node's launcher.</summary>
    public string NodeLogFile(int node) => System.IO.Path.Combine(LogsFolder, "launcher_" + node.ToString("D5", CultureInfo.InvariantCulture) + ".log");

    /// <summary>Folder of the ranks' failure reports; only there after a failure.</summary>
    public string ErrorsFolder => Inside("errors");

    /// <summary>Folder of the checkpoints.</summary>
    public string CheckpointsFolder => Inside("checkpoints");

    /// <summary>Name of the newest complete checkpoint, written last.</summary>
    public string LatestFile => System.IO.Path.Combine(CheckpointsFolder, "latest");

    /// <summary>All that a rank prints, native crashes included.</summary>
    public string LogFile(int rank) => System.IO.Path.Combine(LogsFolder, Numbered(rank) + ".log");

    /// <summary>The rank's <see cref="RankFailure"/>.</summary>
    public string ErrorFile(int rank) => System.IO.Path.Combine(ErrorsFolder, Numbered(rank) + ".json");

    private static string Numbered(int rank) => "rank_" + rank.ToString("D5", CultureInfo.InvariantCulture);

    private string Inside(string name) => System.IO.Path.Combine(Path, name);
}

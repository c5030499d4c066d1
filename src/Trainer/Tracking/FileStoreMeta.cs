using System.Globalization;
using System.Text;
using System.Text.Json;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Moe.Training.Tracking;

/// <summary>meta.yaml, which says what a folder of MLflow's file store is.</summary>
internal static class FileStoreMeta
{
    public const string FileName = "meta.yaml";

    // MLflow's numbers of SourceType.LOCAL and of the statuses.
    private const int LocalSource = 4;

    public static void WriteExperiment(string folder, string id, string name)
    {
        Directory.CreateDirectory(folder);
        var now = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
        Write(folder, [
            ("artifact_location", Quote(TrackingTarget.FileUri(folder))),
            ("creation_time", Text(now)),
            ("experiment_id", Quote(id)),
            ("last_update_time", Text(now)),
            ("lifecycle_stage", "active"),
            ("name", Quote(name)),
        ]);
    }

    public static void WriteRun(string folder, TrackingState run, string status, long? endTime) => Write(folder, [
        ("artifact_uri", Quote(run.ArtifactUri!)),
        ("end_time", endTime is { } end ? Text(end) : "null"),
        ("entry_point_name", "''"),
        ("experiment_id", Quote(run.ExperimentId!)),
        ("lifecycle_stage", "active"),
        ("run_id", Quote(run.RunId!)),
        ("run_name", Quote(run.RunName)),
        ("run_uuid", Quote(run.RunId!)),
        ("source_name", "''"),
        ("source_type", Text(LocalSource)),
        ("source_version", "''"),
        ("start_time", Text(run.StartTime)),
        ("status", Text(Number(status))),
        ("tags", "[]"),
        ("user_id", Quote(Environment.UserName)),
    ]);

    /// <summary>The name of the active experiment in a folder; null where it holds none.</summary>
    public static string? NameOf(string folder)
    {
        var path = Path.Combine(folder, FileName);
        if (!File.Exists(path))
        {
            return null;
        }

        try
        {
            var yaml = new YamlStream();
            yaml.Load(new StringReader(File.ReadAllText(path)));
            return yaml.Documents is [{ RootNode: YamlMappingNode root }] && (string?)root["lifecycle_stage"] == "active" ? (string?)root["name"] : null;
        }
        catch (Exception e) when (e is YamlException or KeyNotFoundException) // another program's half-written file
        {
            return null;
        }
    }

    /// <summary>Writes the text of a parameter or a tag.</summary>
    public static void WriteText(string path, string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }

    // mlflow ui may be reading it.
    private static void Write(string folder, ReadOnlySpan<(string Key, string Value)> lines)
    {
        var text = new StringBuilder();
        foreach (var (key, value) in lines)
        {
            text.Append(key).Append(": ").Append(value).Append('\n');
        }

        var path = Path.Combine(folder, FileName);
        File.WriteAllText(path + ".tmp", text.ToString());
        File.Move(path + ".tmp", path, overwrite: true);
    }

    private static int Number(string status) => status switch
    {
        TrackedStatus.Running => 1,
        TrackedStatus.Stopped => 2,
        TrackedStatus.Finished => 3,
        TrackedStatus.Failed => 4,
        TrackedStatus.Killed => 5,
        _ => throw new ArgumentException($"'{status}' is no status of MLflow", nameof(status)),
    };

    // JSON's texts are YAML's, in double quotes: an id such as 1e5 must not become a number.
    private static string Quote(string text) => JsonSerializer.Serialize(text, MlflowJson.Default.String);

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);
}

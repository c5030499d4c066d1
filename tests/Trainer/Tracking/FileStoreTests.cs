using Moe.Training.Tracking;
using NUnit.Framework;
using YamlDotNet.RepresentationModel;

namespace Moe.Tests.Tracking;

/// <summary>The file layout that <c>mlflow ui</c> opens.</summary>
internal sealed class FileStoreTests
{
    private TrackedFolder _folder = null!;

    [SetUp]
    public void Start()
    {
        _folder = new TrackedFolder("");
        _folder.Uri = Path.Combine(_folder.Root, "mlruns");
    }

    [TearDown]
    public void Stop() => _folder.Dispose();

    private string RunPath => Path.Combine(_folder.Uri, _folder.State.ExperimentId!, _folder.State.RunId!);

    [Test]
    public void Tree_is_the_one_that_mlflow_reads()
    {
        Track(0, tracker =>
        {
            Rows.Tell(tracker, 1, 20);
            Rows.Tell(tracker, 21, ("train/loss", double.NaN), ("eval/loss", double.PositiveInfinity), ("eval/loss/verse", double.NegativeInfinity));
        });

        var files = Directory.EnumerateFiles(_folder.Uri, "*", SearchOption.AllDirectories).Select(file => Path.GetRelativePath(_folder.Uri, file)).ToList();
        var run = Path.GetRelativePath(_folder.Uri, RunPath);
        Assert.That(files, Is.SupersetOf(new[]
        {
            "0/meta.yaml", $"{_folder.State.ExperimentId}/meta.yaml", $"{run}/meta.yaml", $"{run}/metrics/train/loss", $"{run}/metrics/eval/loss", $"{run}/metrics/eval/loss.verse",
            $"{run}/params/model.moe.experts", $"{run}/tags/mlflow.runName", $"{run}/artifacts/config.yaml",
        }));
        Assert.That(Directory.Exists(Path.Combine(_folder.Uri, ".trash")));
        Assert.That(files.Where(file => file.EndsWith(".tmp", StringComparison.Ordinal)), Is.Empty);
        Assert.That(_folder.State.ExperimentId, Does.Match("^[1-9][0-9]{17}$"));
        Assert.That(_folder.State.RunId, Does.Match("^[0-9a-f]{32}$"));

        Assert.That(Rows.OfFile(Path.Combine(RunPath, "metrics/train/loss")), Is.EqualTo(Rows.Losses(20).Append((21, double.NaN))));
        Assert.That(File.ReadAllText(Path.Combine(RunPath, "metrics/eval/loss")), Does.Match("^1[0-9]{12} inf 21\n$"));
        Assert.That(File.ReadAllText(Path.Combine(RunPath, "metrics/eval/loss.verse")), Does.EndWith(" -inf 21\n"));
        Assert.That(File.ReadAllText(Path.Combine(RunPath, "params/model.moe.top_k")), Is.EqualTo("2"), "no line end");
    }

    [Test]
    public void Meta_files_hold_every_key_with_its_type()
    {
        Track(0, tracker => Rows.Tell(tracker, 1, 2));

        var run = Meta(RunPath);
        Assert.That(run.Keys, Is.EqualTo(new[]
        {
            "artifact_uri", "end_time", "entry_point_name", "experiment_id", "lifecycle_stage", "run_id", "run_name", "run_uuid", "source_name", "source_type", "source_version",
            "start_time", "status", "tags", "user_id",
        }));
        Assert.That(run["artifact_uri"].Value, Is.EqualTo("file://" + RunPath + "/artifacts"));
        Assert.That((run["status"].Value, run["source_type"].Value, run["lifecycle_stage"].Value), Is.EqualTo(("3", "4", "active")));
        Assert.That(run["run_id"].IsText && run["experiment_id"].IsText, Is.True, "an id of digits must not become a number");
        Assert.That(long.Parse(run["end_time"].Value), Is.GreaterThanOrEqualTo(long.Parse(run["start_time"].Value)));

        var experiment = Meta(Path.GetDirectoryName(RunPath)!);
        Assert.That(experiment.Keys, Is.EqualTo(new[] { "artifact_location", "creation_time", "experiment_id", "last_update_time", "lifecycle_stage", "name" }));
        Assert.That(experiment["name"].Value, Is.EqualTo("tiny"));
        Assert.That(Meta(Path.Combine(_folder.Uri, "0"))["name"].Value, Is.EqualTo("Default"));
    }

    [Test]
    public void Run_that_is_resumed_goes_on_in_its_files()
    {
        Track(0, tracker => Rows.Tell(tracker, 1, 15), TrackedStatus.Stopped);
        Assert.That((Meta(RunPath)["status"].Value, Meta(RunPath)["end_time"].Value), Is.EqualTo(("2", "null")));
        var first = RunPath;
        Track(10, tracker => Rows.Tell(tracker, 11, 20));

        Assert.That(RunPath, Is.EqualTo(first));
        Assert.That(Meta(RunPath)["status"].Value, Is.EqualTo("3"));
        Assert.That(Rows.OfFile(Path.Combine(RunPath, "metrics/train/loss")), Is.EqualTo(Rows.Losses(20)));
    }

    [Test]
    public void Process_killed_between_writing_and_noting_writes_nothing_twice()
    {
        Track(0, tracker => Rows.Tell(tracker, 1, 30));
        var metric = Path.Combine(RunPath, "metrics/train/loss");
        File.WriteAllText(metric, File.ReadAllText(metric)[..^5]); // the last line's write was cut short
        (_folder.State with { Synced = 0 }).Write(_folder.Run.TrackingStateFile);

        Assert.That(_folder.Sync().Outcome, Is.EqualTo(SyncOutcome.Whole));
        Assert.That(Rows.OfFile(metric), Is.EqualTo(Rows.Losses(30)));
        Assert.That(Directory.GetDirectories(Path.GetDirectoryName(RunPath)!), Has.Length.EqualTo(1));
    }

    [Test]
    public void Runs_of_a_name_share_an_experiment_that_another_program_made()
    {
        var other = Directory.CreateDirectory(Path.Combine(_folder.Uri, "417")).FullName;
        File.WriteAllText(Path.Combine(other, "meta.yaml"), $"artifact_location: file://{other}\ncreation_time: 1\nexperiment_id: '417'\nlast_update_time: 1\nlifecycle_stage: active\nname: tiny\n");
        Track(0, tracker => Rows.Tell(tracker, 1, 2));
        Assert.That(_folder.State.ExperimentId, Is.EqualTo("417"));
    }

    [Test]
    public void Store_that_cannot_be_written_is_told_of_and_written_by_a_later_sync()
    {
        File.WriteAllText(_folder.Uri, "no folder");
        using (var tracker = _folder.Open())
        {
            Rows.Tell(tracker, 1, 10);
            Assert.That(tracker.Finish(TrackedStatus.Finished, TimeSpan.FromMilliseconds(100)), Is.False);
        }

        Assert.That(_folder.Warnings[0], Does.Contain("the file store cannot be written"));
        File.Delete(_folder.Uri);
        Assert.That(_folder.Sync().Outcome, Is.EqualTo(SyncOutcome.Whole));
        Assert.That(Rows.OfFile(Path.Combine(RunPath, "metrics/train/loss")), Is.EqualTo(Rows.Losses(10)));
    }

    private void Track(long lastStep, Action<RunTracker> tell, string status = TrackedStatus.Finished)
    {
        using var tracker = _folder.Open(lastStep);
        tell(tracker);
        Assert.That(tracker.Finish(status), Is.True, string.Join('\n', _folder.Warnings));
        Assert.That(_folder.Warnings, Is.Empty);
    }

    private static Dictionary<string, (string Value, bool IsText)> Meta(string folder)
    {
        var yaml = new YamlStream();
        yaml.Load(new StringReader(File.ReadAllText(Path.Combine(folder, "meta.yaml"))));
        return ((YamlMappingNode)yaml.Documents[0].RootNode).ToDictionary(
            pair => ((YamlScalarNode)pair.Key).Value!,
            pair => pair.Value is YamlScalarNode scalar ? (scalar.Value!, scalar.Style != YamlDotNet.Core.ScalarStyle.Plain) : ("[]", false));
    }
}

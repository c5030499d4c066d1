using System.Security.Cryptography;
using System.Text;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>Files that are stored with a run.</summary>
internal sealed class TrackedArtifactTests : TrackedRunFixture
{
    private Dictionary<string, byte[]> Stored
    {
        get
        {
            var run = OnlyRun;
            return Server.Store.Artifacts.ToDictionary(file => file.Key[$"{run.ExperimentId}/{run.Id}/artifacts/".Length..], file => file.Value);
        }
    }

    [Test]
    public void Report_and_sample_are_stored_when_they_stand_in_the_folder()
    {
        Track(() =>
        {
            File.WriteAllText(Path.Combine(Folder.Run.Path, "report.html"), "<html>");
            File.WriteAllText(Folder.Run.SampleFile, "ROMEO: é");
        });

        Assert.That(Stored.Keys, Is.EquivalentTo(new[] { "config.yaml", "report.html", "sample.txt" }));
        Assert.That(Encoding.UTF8.GetString(Stored["sample.txt"]), Is.EqualTo("ROMEO: é"));
    }

    [Test]
    public void Sample_that_is_written_after_the_run_is_stored_by_the_next_sync_once()
    {
        Track(() => { });
        Thread.Sleep(10);
        File.WriteAllText(Folder.Run.SampleFile, "late");

        Assert.That(Folder.Sync().Lines, Is.EqualTo(1));
        Assert.That(Stored, Contains.Key("sample.txt"));
        Assert.That(Folder.Sync().Lines, Is.Zero);
    }

    [TestCase(TrackedCheckpoints.None, new string[0])]
    [TestCase(TrackedCheckpoints.Last, new[] { "step_00000002" })]
    [TestCase(TrackedCheckpoints.All, new[] { "step_00000001", "step_00000002" })]
    public void Checkpoints_are_stored_on_request(TrackedCheckpoints wanted, string[] steps)
    {
        Configure(wanted);
        var bytes = RandomNumberGenerator.GetBytes(20_000_000);
        Track(tracker =>
        {
            foreach (var step in new[] { 1, 2 })
            {
                var folder = Directory.CreateDirectory(Path.Combine(Folder.Run.CheckpointsFolder, $"step_{step:D8}")).FullName;
                File.WriteAllBytes(Path.Combine(folder, "rank_00000.safetensors"), bytes);
                File.WriteAllText(Path.Combine(folder, "manifest.json"), "{}");
                tracker.Observe(new EventMessage("checkpoint", step, "written"));
            }
        });

        var files = Stored.Keys.Where(path => path.StartsWith("checkpoints/", StringComparison.Ordinal));
        Assert.That(files, Is.EquivalentTo(steps.SelectMany(step => new[] { $"checkpoints/{step}/manifest.json", $"checkpoints/{step}/rank_00000.safetensors" })));
        foreach (var step in steps)
        {
            Assert.That(Stored[$"checkpoints/{step}/rank_00000.safetensors"].AsSpan().SequenceEqual(bytes), Is.True);
        }
    }

    [Test]
    public void Checkpoint_that_is_gone_before_its_turn_is_told_of_and_passed_over()
    {
        Configure(TrackedCheckpoints.All);
        Track(tracker => tracker.Observe(new EventMessage("checkpoint", 3, "written")));
        Assert.That(Folder.Warnings.Single(), Does.Contain("checkpoints/step_00000003 is gone"));
        Assert.That(OnlyRun.Status, Is.EqualTo("FINISHED"));
    }

    [Test]
    public void Server_without_a_store_of_files_is_asked_once_a_file_and_has_the_rows()
    {
        Server.ServesArtifacts = false;
        using var tracker = Folder.Open();
        Rows.Tell(tracker, 1, 10);
        Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True);

        Assert.That(Server.Requests.Count(request => request.Method == "PUT"), Is.EqualTo(1), "its 503 is for good");
        Assert.That(Folder.Warnings.Single(), Does.Contain("config.yaml is not stored").And.Contain("--no-serve-artifacts"));
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(10)));
    }

    [Test]
    public void Folder_that_the_server_shares_with_this_machine_is_written_directly()
    {
        var shared = Path.Combine(Folder.Root, "shared");
        Directory.CreateDirectory(Path.Combine(shared, "1"));
        Server.ArtifactRoot = "file://" + shared;
        Track(() => { });

        var run = OnlyRun;
        Assert.That(File.ReadAllText(Path.Combine(shared, "1", run.Id, "artifacts", "config.yaml")), Does.StartWith("run:"));
    }

    [Test]
    public void Store_of_a_cloud_is_named_and_costs_no_row()
    {
        Server.ArtifactRoot = "s3://bucket";
        Track(() => { });
        Assert.That(Folder.Warnings.Single(), Does.Contain("s3://bucket").And.Contain("--serve-artifacts"));
    }

    [Test]
    public void Nothing_is_stored_where_artifacts_are_off()
    {
        Folder.Config = Folder.Config with { Tracking = Folder.Config.Tracking with { Artifacts = false } };
        Track(() => File.WriteAllText(Folder.Run.SampleFile, "text"));
        Assert.That(Server.Store.Artifacts, Is.Empty);
    }

    private void Configure(TrackedCheckpoints checkpoints) =>
        Folder.Config = Folder.Config with { Tracking = Folder.Config.Tracking with { Checkpoints = checkpoints } };

    private void Track(Action work) => Track(_ => work());
}

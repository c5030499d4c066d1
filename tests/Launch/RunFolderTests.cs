using System.Text.Json;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>What a run leaves in its folder, and which folders it takes.</summary>
internal sealed class RunFolderTests : LaunchTests
{
    [Test]
    public void Folder_holds_record_configuration_events_and_a_log_a_rank()
    {
        Launched.Start("endless", "--nodes", "2", "--backend", "gloo").Until("step=2").Signal(2).End();

        var events = File.ReadLines(Launched.Folder.EventsFile).Select(line => JsonDocument.Parse(line).RootElement.GetProperty("kind").GetString()).ToList();
        Assert.That(events[0], Is.EqualTo("start"));
        Assert.That(events, Does.Contain("stop").And.Contain("checkpoint"));
        Assert.That(events[^1], Is.EqualTo("end"));
        Assert.That(File.ReadAllText(Launched.Folder.ConfigFile), Does.Contain("sequence_length:"));
        Assert.That(Launched.Record.GetProperty("end").GetDateTime(), Is.GreaterThan(Launched.Record.GetProperty("start").GetDateTime()));
        Assert.That(File.Exists(Launched.Folder.LogFile(0)) && File.Exists(Launched.Folder.LogFile(1)), Is.True);
    }

    [Test]
    public void Record_says_running_while_the_run_lasts()
    {
        Launched.Start("endless", "--backend", "gloo").Until("step=2");

        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("running"));
        Assert.That(Launched.Record.GetProperty("end").ValueKind, Is.EqualTo(JsonValueKind.Null));
    }

    [Test]
    public void Named_folder_is_continued_as_the_same_run()
    {
        Launched.Start("done", "--backend", "gloo").End();
        var id = Launched.Record.GetProperty("id").GetString();

        var code = Launched.Start("done", "--backend", "gloo").End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Record.GetProperty("id").GetString(), Is.EqualTo(id));
        Assert.That(Launched.Record.GetProperty("attempt").GetInt32(), Is.EqualTo(2));
    }

    [Test]
    public void New_run_is_not_mixed_into_an_old_one()
    {
        Launched.Start("done", "--backend", "gloo").End();

        var code = Launched.Start("done", "--backend", "gloo", "--resume", "none").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("--resume auto"));
    }

    [Test]
    public void Folder_with_other_things_is_refused()
    {
        Directory.CreateDirectory(Launched.Folder.Path);
        File.WriteAllText(Path.Combine(Launched.Folder.Path, "thesis.tex"), "");

        var code = Launched.Start("done", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Directory.GetFileSystemEntries(Launched.Folder.Path), Has.Length.EqualTo(1));
    }

    [Test]
    public void Checkpoints_keep_the_configuration_of_their_model()
    {
        Directory.CreateDirectory(Launched.Folder.CheckpointsFolder);
        File.WriteAllText(Launched.Folder.RunFile, """{"id":"mine","status":"done","mode":"train","attempt":1}""");
        File.WriteAllText(Launched.Folder.ConfigFile, "model:\n  layers: 3\ndata:\n  domains:\n    - {name: text, path: ../text.txt}\n");
        File.WriteAllText(Launched.Folder.LatestFile, "step_00000005\n");
        var before = File.ReadAllText(Launched.Folder.ConfigFile);

        var code = Launched.Start("done", "--backend", "gloo", "--set", "model.layers=2").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("model.layers: 2 (was 3)"));
        Assert.That(File.ReadAllText(Launched.Folder.ConfigFile), Is.EqualTo(before));
    }

    [TestCase("optimizer.name=sgd", "state of optimizer AdamW, the configuration asks for Sgd")]
    [TestCase("train.micro_batch=3", "8 sequences a step; 1 rank(s) of train.micro_batch=3 make 3 a micro-step")]
    public void What_the_ranks_would_refuse_is_refused_before_anything_changes(string setting, string why)
    {
        Launched.Start("done", "--backend", "gloo").End();
        SaveCheckpoint();
        Directory.CreateDirectory(Launched.Folder.ErrorsFolder);
        var before = Directory.GetFiles(Launched.Folder.Path).ToDictionary(path => path, File.ReadAllText);

        var code = Launched.Start("done", "--backend", "gloo", "--set", setting).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage), Launched.Output);
        Assert.That(Launched.Error, Does.Contain(why).And.Contain("--config run/config.yaml to continue it").And.Not.Contain("warning"));
        Assert.That(Directory.GetFiles(Launched.Folder.Path).ToDictionary(path => path, File.ReadAllText), Is.EquivalentTo(before));
        Assert.That(Directory.Exists(Launched.Folder.ErrorsFolder), Is.True);
    }

    [Test]
    public void Checkpoint_of_another_run_is_refused_before_a_folder_is_made()
    {
        Launched.Start("done", "--backend", "gloo").End();
        SaveCheckpoint();
        var other = Path.Combine(Launched.Scratch, "other");

        var code = Launched.StartBare(
            "done", "--config", Launched.ConfigFile, "--run-dir", other, "--backend", "gloo", "--set", "optimizer.name=sgd", "--resume", Launched.Folder.Path).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage), Launched.Output);
        Assert.That(Launched.Error, Does.Contain("state of optimizer AdamW").And.Contain("or another checkpoint"));
        Assert.That(Directory.Exists(other), Is.False);
    }

    [Test]
    public void Attempt_whose_ranks_never_begin_leaves_the_configuration_that_was_trained()
    {
        Launched.Start("done", "--backend", "gloo").End();
        string[] files = [Launched.Folder.ConfigFile, Launched.Folder.ConfigOriginFile];
        var before = files.Select(File.ReadAllText).ToList();

        var code = Launched.Start("refuse", "--backend", "gloo", "--set", "optimizer.weight_decay=0.5").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Checkpoint), Launched.Error);
        Assert.That(files.Select(File.ReadAllText), Is.EqualTo(before));
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("failed"));
        Assert.That(Launched.Start("done", "--backend", "gloo", "--set", "optimizer.weight_decay=0.5").End(), Is.Zero, Launched.Error);
        Assert.That(File.ReadAllText(Launched.Folder.ConfigFile), Does.Contain("weight_decay: 0.5"));
    }

    [TestCase("verify")]
    [TestCase("bench", "step")]
    public void Training_is_not_written_over_by_another_command(params string[] command)
    {
        Launched.Start("done", "--backend", "gloo").End();
        var before = Directory.GetFiles(Launched.Folder.Path).ToDictionary(path => path, File.ReadAllText);

        var code = Launched.StartBare("done", [.. command, "--config", Launched.ConfigFile, "--run-dir", Launched.Folder.Path, "--backend", "gloo"]).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage), Launched.Output);
        Assert.That(Launched.Error, Does.Contain($"of launch train, which launch {command[0]} would write over").And.Contain("another --run-dir"));
        Assert.That(Directory.GetFiles(Launched.Folder.Path).ToDictionary(path => path, File.ReadAllText), Is.EquivalentTo(before));
    }

    [TestCase("verify")]
    [TestCase("bench", "step")]
    public void What_keeps_no_checkpoints_has_no_option_to_resume(params string[] command) =>
        Assert.That(Launched.StartBare("done", [.. command, "--config", Launched.ConfigFile, "--resume", "auto"]).End(), Is.EqualTo(ExitCodes.Usage), Launched.Output);

    [Test]
    public void Folder_in_which_a_start_got_nowhere_is_taken()
    {
        Directory.CreateDirectory(Launched.Folder.Path);
        File.WriteAllText(Path.Combine(Launched.Folder.Path, "run.lock"), "");
        File.WriteAllText(Launched.Folder.RunFile + ".tmp", """{"id":"mi""");

        Assert.That(Launched.Start("done", "--backend", "gloo").End(), Is.Zero, Launched.Error);
    }

    [Test]
    public void Start_on_a_full_disk_leaves_a_folder_that_the_same_command_takes()
    {
        using var disk = SmallDisk.Mount(Launched.Scratch, "1m");
        string[] command = ["--config", Launched.ConfigFile, "--run-dir", Path.Combine(disk.Folder, "run"), "--backend", "gloo"];
        disk.Fill();

        Assert.That(Launched.StartBare("done", command).End(), Is.EqualTo(ExitCodes.Preflight), Launched.Output);
        Assert.That(Launched.Error, Does.Contain("No space left").And.Contain("free space"));
        disk.Free();
        Assert.That(Launched.StartBare("done", command).End(), Is.Zero, Launched.Error);
    }

    [TestCase("")]
    [TestCase("""{"id":"mi""")]
    [TestCase("null")]
    public void Training_with_a_damaged_record_goes_on_from_its_checkpoints(string record)
    {
        Launched.Start("done", "--backend", "gloo").End();
        SaveCheckpoint();
        File.WriteAllText(Launched.Folder.RunFile, record);

        var code = Launched.Start("done", "--backend", "gloo").End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Error, Does.Contain("run.json of").And.Contain("is damaged").And.Contain("step_00000005"));
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("done"));
    }

    [Test]
    public void Damaged_record_without_checkpoints_is_said_and_the_folder_left_alone()
    {
        Launched.Start("done", "--backend", "gloo").End();
        File.WriteAllText(Launched.Folder.RunFile, "{");

        Assert.That(Launched.Start("done", "--backend", "gloo").End(), Is.EqualTo(ExitCodes.Usage), Launched.Output);
        Assert.That(Launched.Error, Does.Contain("run.json is damaged").And.Contain("another --run-dir"));
        Assert.That(File.ReadAllText(Launched.Folder.RunFile), Is.EqualTo("{"));
    }

    [Test]
    public void Two_launchers_do_not_share_a_folder()
    {
        Launched.Start("endless", "--backend", "gloo").Until("step=2");
        Directory.CreateDirectory(Launched.Folder.ErrorsFolder); // the first one's

        var open = () => Moe.Launch.Runs.RunFolderOpening.OpenNamed(Launched.Folder.Path, "train", startsAfresh: false);

        Assert.That(open, Throws.TypeOf<Moe.Launch.LaunchException>().With.Property("ExitCode").EqualTo(ExitCodes.Preflight));
        Assert.That(Directory.Exists(Launched.Folder.ErrorsFolder), Is.True);
    }

    [Test]
    public void Unnamed_run_gets_a_folder_named_after_time_and_configuration()
    {
        Launched.StartBare("done", "--config", Launched.ConfigFile, "--backend", "gloo").End();

        Assert.That(Launched.Output, Does.Match(@"run=\d{4}-\d\d-\d\d_\d{4}-tiny-[0-9a-f]{4} folder=runs/"));
    }

    // As after five steps of eight sequences; its tensors are never looked at.
    private void SaveCheckpoint()
    {
        var checkpoints = new CheckpointFolder(Launched.Folder.CheckpointsFolder);
        checkpoints.Begin(5);
        new CheckpointManifest(
            CheckpointManifest.CurrentFormat, "replica 1 x expert 1", new RunPosition(5, 40, 2560, 8, 0, 1, nameof(OptimizerName.AdamW), new Dictionary<string, double>(), new Dictionary<string, string>()), [], [])
            .Write(checkpoints.PartialOf(5));
        checkpoints.Complete(5, keep: 1);
    }
}

using System.Text.Json;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>What a run leaves in its folder, and which folders it takes.</summary>
internal sealed class RunFolderTests
{
    private LaunchedRun _run = null!;

    [SetUp]
    public void CreateRun() => _run = new LaunchedRun();

    [TearDown]
    public void DisposeRun() => _run.Dispose();

    [Test]
    public void Folder_holds_record_configuration_events_and_a_log_a_rank()
    {
        _run.Start("endless", "--nodes", "2", "--backend", "gloo").Until("step=2").Signal(2).End();

        var events = File.ReadLines(_run.Folder.EventsFile).Select(line => JsonDocument.Parse(line).RootElement.GetProperty("kind").GetString()).ToList();
        Assert.That(events[0], Is.EqualTo("start"));
        Assert.That(events, Does.Contain("stop").And.Contain("checkpoint"));
        Assert.That(events[^1], Is.EqualTo("end"));
        Assert.That(File.ReadAllText(_run.Folder.ConfigFile), Does.Contain("sequence_length:"));
        Assert.That(_run.Record.GetProperty("end").GetDateTime(), Is.GreaterThan(_run.Record.GetProperty("start").GetDateTime()));
        Assert.That(File.Exists(_run.Folder.LogFile(0)) && File.Exists(_run.Folder.LogFile(1)), Is.True);
    }

    [Test]
    public void Record_says_running_while_the_run_lasts()
    {
        _run.Start("endless", "--backend", "gloo").Until("step=2");

        Assert.That(_run.Record.GetProperty("status").GetString(), Is.EqualTo("running"));
        Assert.That(_run.Record.GetProperty("end").ValueKind, Is.EqualTo(JsonValueKind.Null));
    }

    [Test]
    public void Named_folder_is_continued_as_the_same_run()
    {
        _run.Start("done", "--backend", "gloo").End();
        var id = _run.Record.GetProperty("id").GetString();

        var code = _run.Start("done", "--backend", "gloo").End();

        Assert.That(code, Is.Zero, _run.Error);
        Assert.That(_run.Record.GetProperty("id").GetString(), Is.EqualTo(id));
        Assert.That(_run.Record.GetProperty("attempt").GetInt32(), Is.EqualTo(2));
    }

    [Test]
    public void New_run_is_not_mixed_into_an_old_one()
    {
        _run.Start("done", "--backend", "gloo").End();

        var code = _run.Start("done", "--backend", "gloo", "--resume", "none").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(_run.Error, Does.Contain("--resume auto"));
    }

    [Test]
    public void Folder_with_other_things_is_refused()
    {
        Directory.CreateDirectory(_run.Folder.Path);
        File.WriteAllText(Path.Combine(_run.Folder.Path, "thesis.tex"), "");

        var code = _run.Start("done", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Directory.GetFileSystemEntries(_run.Folder.Path), Has.Length.EqualTo(1));
    }

    [Test]
    public void Checkpoints_keep_the_configuration_of_their_model()
    {
        Directory.CreateDirectory(_run.Folder.CheckpointsFolder);
        File.WriteAllText(_run.Folder.RunFile, """{"id":"mine","status":"done","mode":"train","attempt":1}""");
        File.WriteAllText(_run.Folder.ConfigFile, "model:\n  layers: 3\ndata:\n  domains:\n    - {name: text, path: ../text.txt}\n");
        File.WriteAllText(_run.Folder.LatestFile, "step_00000005\n");
        var before = File.ReadAllText(_run.Folder.ConfigFile);

        var code = _run.Start("done", "--backend", "gloo", "--set", "model.layers=2").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(_run.Error, Does.Contain("model.layers: 2 (was 3)"));
        Assert.That(File.ReadAllText(_run.Folder.ConfigFile), Is.EqualTo(before));
    }

    [TestCase("optimizer.name=sgd", "state of optimizer AdamW, the configuration asks for Sgd")]
    [TestCase("train.micro_batch=3", "8 sequences a step; 1 rank(s) of train.micro_batch=3 make 3 a micro-step")]
    public void What_the_ranks_would_refuse_is_refused_before_anything_changes(string setting, string why)
    {
        _run.Start("done", "--backend", "gloo").End();
        SaveCheckpoint();
        Directory.CreateDirectory(_run.Folder.ErrorsFolder);
        var before = Directory.GetFiles(_run.Folder.Path).ToDictionary(path => path, File.ReadAllText);

        var code = _run.Start("done", "--backend", "gloo", "--set", setting).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage), _run.Output);
        Assert.That(_run.Error, Does.Contain(why).And.Contain("--config run/config.yaml to continue it").And.Not.Contain("warning"));
        Assert.That(Directory.GetFiles(_run.Folder.Path).ToDictionary(path => path, File.ReadAllText), Is.EquivalentTo(before));
        Assert.That(Directory.Exists(_run.Folder.ErrorsFolder), Is.True);
    }

    [Test]
    public void Checkpoint_of_another_run_is_refused_before_a_folder_is_made()
    {
        _run.Start("done", "--backend", "gloo").End();
        SaveCheckpoint();
        var other = Path.Combine(_run.Scratch, "other");

        var code = _run.StartBare(
            "done", "--config", _run.ConfigFile, "--run-dir", other, "--backend", "gloo", "--set", "optimizer.name=sgd", "--resume", _run.Folder.Path).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage), _run.Output);
        Assert.That(_run.Error, Does.Contain("state of optimizer AdamW").And.Contain("or another checkpoint"));
        Assert.That(Directory.Exists(other), Is.False);
    }

    [Test]
    public void Attempt_whose_ranks_never_begin_leaves_the_configuration_that_was_trained()
    {
        _run.Start("done", "--backend", "gloo").End();
        string[] files = [_run.Folder.ConfigFile, _run.Folder.ConfigOriginFile];
        var before = files.Select(File.ReadAllText).ToList();

        var code = _run.Start("refuse", "--backend", "gloo", "--set", "optimizer.weight_decay=0.5").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Checkpoint), _run.Error);
        Assert.That(files.Select(File.ReadAllText), Is.EqualTo(before));
        Assert.That(_run.Record.GetProperty("status").GetString(), Is.EqualTo("failed"));
        Assert.That(_run.Start("done", "--backend", "gloo", "--set", "optimizer.weight_decay=0.5").End(), Is.Zero, _run.Error);
        Assert.That(File.ReadAllText(_run.Folder.ConfigFile), Does.Contain("weight_decay: 0.5"));
    }

    [TestCase("verify")]
    [TestCase("bench", "step")]
    public void Training_is_not_written_over_by_another_command(params string[] command)
    {
        _run.Start("done", "--backend", "gloo").End();
        var before = Directory.GetFiles(_run.Folder.Path).ToDictionary(path => path, File.ReadAllText);

        var code = _run.StartBare("done", [.. command, "--config", _run.ConfigFile, "--run-dir", _run.Folder.Path, "--backend", "gloo"]).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage), _run.Output);
        Assert.That(_run.Error, Does.Contain($"of launch train, which launch {command[0]} would write over").And.Contain("another --run-dir"));
        Assert.That(Directory.GetFiles(_run.Folder.Path).ToDictionary(path => path, File.ReadAllText), Is.EquivalentTo(before));
    }

    [TestCase("verify")]
    [TestCase("bench", "step")]
    public void What_keeps_no_checkpoints_has_no_option_to_resume(params string[] command) =>
        Assert.That(_run.StartBare("done", [.. command, "--config", _run.ConfigFile, "--resume", "auto"]).End(), Is.EqualTo(ExitCodes.Usage), _run.Output);

    [Test]
    public void Folder_in_which_a_start_got_nowhere_is_taken()
    {
        Directory.CreateDirectory(_run.Folder.Path);
        File.WriteAllText(Path.Combine(_run.Folder.Path, "run.lock"), "");
        File.WriteAllText(_run.Folder.RunFile + ".tmp", """{"id":"mi""");

        Assert.That(_run.Start("done", "--backend", "gloo").End(), Is.Zero, _run.Error);
    }

    [Test]
    public void Start_on_a_full_disk_leaves_a_folder_that_the_same_command_takes()
    {
        using var disk = SmallDisk.Mount(_run.Scratch, "1m");
        string[] command = ["--config", _run.ConfigFile, "--run-dir", Path.Combine(disk.Folder, "run"), "--backend", "gloo"];
        disk.Fill();

        Assert.That(_run.StartBare("done", command).End(), Is.EqualTo(ExitCodes.Preflight), _run.Output);
        Assert.That(_run.Error, Does.Contain("No space left").And.Contain("free space"));
        disk.Free();
        Assert.That(_run.StartBare("done", command).End(), Is.Zero, _run.Error);
    }

    [TestCase("")]
    [TestCase("""{"id":"mi""")]
    [TestCase("null")]
    public void Training_with_a_damaged_record_goes_on_from_its_checkpoints(string record)
    {
        _run.Start("done", "--backend", "gloo").End();
        SaveCheckpoint();
        File.WriteAllText(_run.Folder.RunFile, record);

        var code = _run.Start("done", "--backend", "gloo").End();

        Assert.That(code, Is.Zero, _run.Error);
        Assert.That(_run.Error, Does.Contain("run.json of").And.Contain("is damaged").And.Contain("step_00000005"));
        Assert.That(_run.Record.GetProperty("status").GetString(), Is.EqualTo("done"));
    }

    [Test]
    public void Damaged_record_without_checkpoints_is_said_and_the_folder_left_alone()
    {
        _run.Start("done", "--backend", "gloo").End();
        File.WriteAllText(_run.Folder.RunFile, "{");

        Assert.That(_run.Start("done", "--backend", "gloo").End(), Is.EqualTo(ExitCodes.Usage), _run.Output);
        Assert.That(_run.Error, Does.Contain("run.json is damaged").And.Contain("another --run-dir"));
        Assert.That(File.ReadAllText(_run.Folder.RunFile), Is.EqualTo("{"));
    }

    [Test]
    public void Two_launchers_do_not_share_a_folder()
    {
        _run.Start("endless", "--backend", "gloo").Until("step=2");
        Directory.CreateDirectory(_run.Folder.ErrorsFolder); // the first one's

        var open = () => Moe.Launch.Runs.RunFolderOpening.OpenNamed(_run.Folder.Path, "train", startsAfresh: false);

        Assert.That(open, Throws.TypeOf<Moe.Launch.LaunchException>().With.Property("ExitCode").EqualTo(ExitCodes.Preflight));
        Assert.That(Directory.Exists(_run.Folder.ErrorsFolder), Is.True);
    }

    [Test]
    public void Unnamed_run_gets_a_folder_named_after_time_and_configuration()
    {
        _run.StartBare("done", "--config", _run.ConfigFile, "--backend", "gloo").End();

        Assert.That(_run.Output, Does.Match(@"run=\d{4}-\d\d-\d\d_\d{4}-tiny-[0-9a-f]{4} folder=runs/"));
    }

    // As after five steps of eight sequences; its tensors are never looked at.
    private void SaveCheckpoint()
    {
        var checkpoints = new CheckpointFolder(_run.Folder.CheckpointsFolder);
        checkpoints.Begin(5);
        new CheckpointManifest(
            CheckpointManifest.CurrentFormat, "replica 1 x expert 1", new RunPosition(5, 40, 2560, 8, 0, 1, nameof(OptimizerName.AdamW), new Dictionary<string, double>(), new Dictionary<string, string>()), [], [])
            .Write(checkpoints.PartialOf(5));
        checkpoints.Complete(5, keep: 1);
    }
}

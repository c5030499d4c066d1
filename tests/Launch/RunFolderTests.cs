using System.Text.Json;
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
        File.WriteAllText(_run.Folder.RunFile, """{"id":"mine","status":"done","attempt":1}""");
        File.WriteAllText(_run.Folder.ConfigFile, "model:\n  layers: 3\ndata:\n  domains:\n    - {name: text, path: ../text.txt}\n");
        File.WriteAllText(_run.Folder.LatestFile, "step_00000005\n");
        var before = File.ReadAllText(_run.Folder.ConfigFile);

        var code = _run.Start("done", "--backend", "gloo", "--set", "model.layers=2").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(_run.Error, Does.Contain("model.layers: 2 (was 3)"));
        Assert.That(File.ReadAllText(_run.Folder.ConfigFile), Is.EqualTo(before));
    }

    [Test]
    public void Two_launchers_do_not_share_a_folder()
    {
        _run.Start("endless", "--backend", "gloo").Until("step=2");
        Directory.CreateDirectory(_run.Folder.ErrorsFolder); // the first one's

        var open = () => Moe.Launch.Runs.RunFolderOpening.OpenNamed(_run.Folder.Path, startsAfresh: false);

        Assert.That(open, Throws.TypeOf<Moe.Launch.LaunchException>().With.Property("ExitCode").EqualTo(ExitCodes.Preflight));
        Assert.That(Directory.Exists(_run.Folder.ErrorsFolder), Is.True);
    }

    [Test]
    public void Unnamed_run_gets_a_folder_named_after_time_and_configuration()
    {
        _run.StartBare("done", "--config", _run.ConfigFile, "--backend", "gloo").End();

        Assert.That(_run.Output, Does.Match(@"run=\d{4}-\d\d-\d\d_\d{4}-tiny-[0-9a-f]{4} folder=runs/"));
    }
}

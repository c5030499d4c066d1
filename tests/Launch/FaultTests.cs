using System.Text.Json;
using Moe.Launch.Checks;
using Moe.Launch.Runs;
using Moe.Training.Hosting;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>What goes wrong around a run: each has one clear message and its exit code, and nothing that was good is lost.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class FaultTests : LaunchTests
{
    [Test]
    public void Closed_terminal_stops_the_run_with_a_checkpoint_even_if_it_hangs_up_twice()
    {
        var code = Launched.Start("endless", "--nodes", "2", "--backend", "gloo").Until("step=3").Signal(1).Signal(1).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Stopped), Launched.Error);
        Assert.That(Launched.Output, Does.Contain("SIGHUP: stopping after this step").And.Contain("event=checkpoint"));
    }

    [TestCase(2, 130), TestCase(15, 143)]
    public void Signal_before_the_ranks_are_started_ends_the_launcher_at_once_and_the_same_command_starts_again(int signal, int code)
    {
        // Whoever reads from a pipe waits for a writer: the launcher stands still at its configuration.
        var text = File.ReadAllText(Launched.ConfigFile);
        File.Delete(Launched.ConfigFile);
        Launched.StartInShell("mkfifo tiny.yaml; exec $LAUNCH", "done", "--backend", "gloo").Wait(() => File.Exists(Launched.ConfigFile), "the pipe");
        Thread.Sleep(1000);

        Assert.That(Launched.Signal(signal).End(), Is.EqualTo(code), Launched.Error);
        Assert.That(Directory.Exists(Launched.Folder.Path), Is.False);
        File.Delete(Launched.ConfigFile);
        File.WriteAllText(Launched.ConfigFile, text);
        Assert.That(Launched.Start("done", "--backend", "gloo").End(), Is.Zero, Launched.Error);
    }

    [Test]
    public void Run_under_nohup_does_not_hear_the_terminal_close()
    {
        Launched.StartInShell("exec nohup $LAUNCH", "endless", "--backend", "gloo").Until("step=3").Signal(1).Until("step=20");

        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("running"));
    }

    [Test]
    public void Broken_pipe_on_standard_output_is_said_once_and_the_run_goes_on()
    {
        var code = Launched.StartInShell("set -o pipefail; $LAUNCH | head -1", "long", "--backend", "gloo").End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries), Has.Length.EqualTo(1));
        Assert.That(Launched.Error.Split("standard output is gone (Broken pipe)"), Has.Length.EqualTo(2), Launched.Error);
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("done"));
    }

    [Test]
    public void Full_disk_under_standard_output_does_not_end_the_run()
    {
        var code = Launched.StartInShell("$LAUNCH > /dev/full", "done", "--backend", "gloo").End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Error, Does.Contain("standard output is gone (No space left on device)"));
    }

    [Test]
    public void Finished_run_has_nothing_left_to_do_and_starts_no_rank()
    {
        Launched.Start("done", "--backend", "gloo", "--set", "train.steps=5", "--set", "schedule.warmup_steps=0").End();
        File.WriteAllText(Launched.Folder.LatestFile, "step_00000005\n");
        File.Delete(Launched.Folder.LogFile(0));

        var code = Launched.Start("done", "--backend", "gloo", "--set", "train.steps=5", "--set", "schedule.warmup_steps=0").End();

        Assert.That(code, Is.Zero);
        Assert.That(Launched.Error, Does.Contain("nothing is left to do").And.Contain("all of its 5 steps").And.Contain("--set train.steps=N"));
        Assert.That(File.Exists(Launched.Folder.LogFile(0)), Is.False);
    }

    [Test]
    public void Changed_configuration_of_a_continued_run_is_told()
    {
        Launched.Start("done", "--backend", "gloo").End();
        File.WriteAllText(Launched.Folder.LatestFile, "step_00000005\n");

        Launched.Start("done", "--backend", "gloo", "--set", "optimizer.learning_rate=0.5").End();

        Assert.That(Launched.Error, Does.Contain("warning: the configuration is not the one that").And.Contain("optimizer.learning_rate: 0.5 (was 0.001)"));
    }

    [Test]
    public void Folder_in_use_is_refused_with_the_process_that_uses_it()
    {
        Launched.Start("endless", "--backend", "gloo").Until("step=2");
        var process = Launched.Record.GetProperty("launcher_pid").GetInt32();
        using var second = new LaunchedRun();

        var code = second.StartBare("done", "--config", Launched.ConfigFile, "--run-dir", Launched.Folder.Path, "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(second.Error, Does.Contain($"is in use: a launcher works in it (pid {process} on ").And.Contain($"kill {process} to stop it"));
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("running"), "the first one is not disturbed");
    }

    [TestCase("/proc/moe/run"), TestCase("/dev/null/run")]
    public void Folder_that_cannot_be_made_is_refused_before_anything_starts(string folder)
    {
        var code = Launched.StartBare("done", "--config", Launched.ConfigFile, "--run-dir", folder, "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(Launched.Error, Does.Contain("✗ the run folder").And.Contain("another --run-dir").And.Not.Contain("   at "));
    }

    [Test]
    public void Runs_folder_that_can_only_be_read_is_refused()
    {
        using var disk = SmallDisk.Mount(Directory.GetParent(Launched.ConfigFile)!.FullName, "8m", readOnly: true);

        var code = Launched.StartBare("done", "--config", Launched.ConfigFile, "--run-dir", Path.Combine(disk.Folder, "run"), "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(Launched.Error, Does.Contain("Read-only file system").And.Contain("another --run-dir"));
    }

    [Test]
    public void Full_disk_under_the_run_folder_does_not_end_a_run_that_writes_nothing_of_weight()
    {
        using var disk = SmallDisk.Mount(Directory.GetParent(Launched.ConfigFile)!.FullName, "1m");
        Launched.StartBare("endless", "--config", Launched.ConfigFile, "--run-dir", Path.Combine(disk.Folder, "run"), "--backend", "gloo", "--nodes", "2").Until("step=3");

        disk.Fill();
        var code = Launched.Until("step=20").Signal(2).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Stopped), Launched.Error + Launched.Output);
        Assert.That(Launched.Output.Split("record cannot be kept"), Has.Length.EqualTo(2), "said once");
    }

    [Test]
    public void Deleted_run_folder_ends_the_run_with_one_message_and_does_not_come_back()
    {
        Launched.Start("endless", "--nodes", "2", "--backend", "gloo").Until("step=3");

        Directory.Delete(Launched.Folder.Path, recursive: true);
        var code = Launched.End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed));
        Assert.That(Launched.Error, Does.Match("✗ train failed after .* at step").And.Contain("the run folder").And.Contain("is gone: it was deleted or moved away"));
        Assert.That(Launched.Error, Does.Not.Contain("rank_0000"), "no log is left to read");
        Assert.That(Directory.Exists(Launched.Folder.Path), Is.False);
        Assert.That(Launched.Processes, Is.Empty);
    }

    [Test]
    public void Run_whose_launcher_was_killed_is_found_and_put_right_by_the_next_command()
    {
        Launched.Start("recorded-endless", "--backend", "gloo").Until("step=3").Signal(9).End();
        Launched.Wait(() => Launched.Processes.Count == 0, "the end of the ranks");
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("running"), "nobody could write more");
        var process = Launched.Record.GetProperty("launcher_pid").GetInt32();

        var code = Launched.Start("done", "--backend", "gloo").End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Error, Does.Match($@"found: run: the launcher of attempt 1 \(pid {process} on .*\) ended without a word after step 5").And.Contain("it has no checkpoint"));
        Assert.That(File.ReadAllText(Launched.Folder.EventsFile), Does.Contain("\"abandoned\""));
        Assert.That(Launched.Record.GetProperty("attempt").GetInt32(), Is.EqualTo(2));
    }

    [Test]
    public void New_run_puts_right_the_abandoned_ones_beside_it()
    {
        var runs = Path.Combine(Path.GetDirectoryName(Launched.ConfigFile)!, "runs");
        Launched.StartBare("endless", "--config", Launched.ConfigFile, "--run-dir", Path.Combine(runs, "lost"), "--backend", "gloo").Until("step=3").Signal(9).End();
        Launched.Wait(() => LaunchedRun.ProcessesBelow(runs).Count == 0, "the end of the ranks");

        Launched.StartBare("done", "--config", Launched.ConfigFile, "--backend", "gloo").End();

        Assert.That(Launched.Error, Does.Contain("found: lost: the launcher of attempt 1"));
        var record = JsonDocument.Parse(File.ReadAllText(Path.Combine(runs, "lost", "run.json"))).RootElement;
        Assert.That(record.GetProperty("status").GetString(), Is.EqualTo("abandoned"));
        Assert.That(record.GetProperty("end").GetDateTime(), Is.GreaterThan(record.GetProperty("start").GetDateTime()));
    }

    [Test]
    public void Run_that_is_alive_is_not_taken_for_abandoned()
    {
        Launched.Start("endless", "--backend", "gloo").Until("step=3");

        Assert.That(AbandonedRuns.Settle(Launched.Folder), Is.Null);
        Assert.That(AbandonedRuns.SettleAll(Path.GetDirectoryName(Launched.Folder.Path)!), Is.Empty);
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("running"));
    }

    [Test]
    public void Run_of_another_user_that_cannot_be_read_keeps_no_new_one_from_starting()
    {
        var runs = Directory.CreateDirectory(Path.Combine(Launched.Scratch, "runs", "foreign")).Parent!.FullName;
        using var unreadable = new FileStream(Path.Combine(runs, "foreign", "run.json"), FileMode.Create, FileAccess.ReadWrite, FileShare.None);

        Assert.That(() => AbandonedRuns.SettleAll(runs), Is.Empty);
    }

    [Test]
    public void Sample_that_cannot_be_drawn_does_not_undo_a_run_that_ended_well()
    {
        var code = Launched.Start("done", "--backend", "gloo", "--set", "train.sample_tokens=4").End(); // fake ranks leave no checkpoint

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Output, Does.Contain("there is no sample"));
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("done"));
        Assert.That(Launched.Folder.ReportFile, Does.Exist);
    }

    [Test]
    public void Damaged_run_folder_keeps_nothing_of_the_others_from_MLflow()
    {
        var runs = Path.Combine(Launched.Scratch, "runs");
        var (damaged, whole) = (new RunFolder(Path.Combine(runs, "a")), new RunFolder(Path.Combine(runs, "b")));
        Directory.CreateDirectory(damaged.Path);
        Directory.CreateDirectory(whole.Path);
        File.WriteAllText(damaged.TrackingStateFile, "{");
        new TrackingState($"file://{Launched.Scratch}/mlruns", "verse", "b", "mark", 1790000000000).Write(whole.TrackingStateFile);

        var code = Launched.StartBare("done", "mlflow", "sync", "--all", runs).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(Launched.Error, Does.Contain("is not sent").And.Contain("mlflow.json' is damaged"));
        Assert.That(TrackingState.Read(whole.TrackingStateFile)!.RunId, Is.Not.Null, Launched.Output);
    }

    [Test]
    public void Stack_is_shown_only_on_request([Values] bool asked)
    {
        Launched.Start("throw@0", ["--backend", "gloo", .. asked ? ["--verbosity", "d"] : Array.Empty<string>()]).End();

        Assert.That(Launched.Error.Contains("   at Moe.Tests.Launch.FakeRank", StringComparison.Ordinal), Is.EqualTo(asked));
        Assert.That(Launched.Error, Does.Contain("✗ train failed after"));
    }

    [Test]
    public void Quiet_run_says_nothing_unless_it_fails()
    {
        Assert.That(Launched.Start("done", "--backend", "gloo", "--verbosity", "q").End(), Is.Zero);
        Assert.That(Launched.Output, Is.EqualTo("rank 0 says \"done\"\n"), "what the run itself says to the user");

        Launched.Start("throw@0", "--backend", "gloo", "--verbosity", "q").End();
        Assert.That(Launched.Error, Does.StartWith("✗ train failed after"));
    }

    [Test]
    public void Repeated_warnings_are_counted()
    {
        Launched.Start("warn", "--backend", "gloo").End();

        Assert.That(Launched.Output.Split("the disk is slow"), Has.Length.EqualTo(4), Launched.Output);
        Assert.That(Launched.Output, Does.Contain("the disk is slow (10 times so far)").And.Contain("the disk is slow (12 times in all)"));
    }

    [Test]
    public void Port_in_use_is_recognised_wherever_it_is_hidden()
    {
        using var first = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        first.Start();
        using var second = new System.Net.Sockets.TcpListener((System.Net.IPEndPoint)first.LocalEndpoint);

        var error = Assert.Catch(second.Start)!;

        Assert.That(PortFault.IsOne(new IOException("Failed to bind", error)), Is.True);
        Assert.That(PortFault.IsOne(new IOException("No space left on device")), Is.False);
    }

    [TestCase(28, "free space"), TestCase(122, "free space"), TestCase(27, "ulimit"), TestCase(30, "another --run-dir"), TestCase(5, null)]
    public void Disk_faults_have_a_remedy(int error, string? remedy)
    {
        var text = DiskFault.Remedy(new IOException("words", error));

        Assert.That(text, remedy is null ? Is.Null : Does.Contain(remedy));
    }
}

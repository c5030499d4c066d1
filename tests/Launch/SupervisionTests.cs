using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>What becomes of a run, its exit code and its processes, however its ranks or its launcher end.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class SupervisionTests : LaunchTests
{
    private static readonly string[] Backends = ["gloo", "mpi"];

    [TestCaseSource(nameof(Backends))]
    public void Run_that_ends_well_is_done_with_code_0(string backend)
    {
        var code = Launched.Start("done", "--nodes", "2", "--procs-per-node", "2", "--backend", backend).End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("done"));
        Assert.That(Launched.Record.GetProperty("backend").GetString(), Is.EqualTo(backend));
        Assert.That(Launched.Record.GetProperty("world_size").GetInt32(), Is.EqualTo(4));
        Assert.That(Launched.Record.GetProperty("exit_code").GetInt32(), Is.Zero);
        Assert.That(Launched.Record.GetProperty("mesh").GetString(), Is.EqualTo("replica 1 x expert 4"));
        Assert.That(Launched.Record.GetProperty("parameters").GetProperty("active").GetInt64(), Is.EqualTo(3_100_000));
        Assert.That(Launched.Processes, Is.Empty);
    }

    [TestCaseSource(nameof(Backends))]
    public void Each_rank_knows_its_place_and_its_arguments(string backend)
    {
        Launched.Start("done", "--nodes", "2", "--procs-per-node", "2", "--backend", backend, "--set", "parallel.threads=3").End();

        for (var rank = 0; rank < 4; rank++)
        {
            var log = File.ReadAllText(Launched.Folder.LogFile(rank));
            Assert.That(log, Does.Contain($"rank {rank} of 4, local {rank % 2} of 2, node {rank / 2}"));
            Assert.That(log, Does.Contain($"arguments train --config {Launched.Folder.ConfigFile} --resume auto --backend {backend}"));
            Assert.That(log, Does.Contain("threads 3"));
        }
    }

    [TestCaseSource(nameof(Backends))]
    public void Rank_that_throws_is_the_root_cause_and_ends_the_others(string backend)
    {
        var code = Launched.Start("throw@1", "--nodes", "4", "--backend", backend).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Error);
        Assert.That(Launched.Error, Does.Contain("root cause: rank 1 (node 1, local 0, pid "));
        Assert.That(Launched.Error, Does.Contain("the loss is not finite"));
        Assert.That(Launched.Error, Does.Contain("rank_00001.log"));
        Assert.That(Launched.Error, Does.Contain("3 rank(s) stopped by the launcher"));
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("failed"));
        Assert.That(RankFailure.Read(Launched.Folder.ErrorFile(1)).What, Does.Contain("the loss is not finite"));
        Assert.That(File.ReadAllText(Launched.Folder.LogFile(1)), Does.Contain("at Moe.Tests.Launch.FakeRank"), "the log keeps the stack");
        Assert.That(Launched.Error, Does.Not.Contain("   at "), "the console shows none");
        Assert.That(Launched.Processes, Is.Empty);
    }

    [TestCaseSource(nameof(Backends))]
    public void Rank_that_exits_without_a_word_is_named(string backend)
    {
        var code = Launched.Start("exit@1", "--nodes", "2", "--backend", backend).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Error);
        Assert.That(Launched.Error, Does.Contain("root cause: rank 1"));
        Assert.That(Launched.Processes, Is.Empty);
    }

    [TestCaseSource(nameof(Backends))]
    public void Killed_rank_is_named_with_rank_process_and_signal(string backend)
    {
        var code = Launched.Start("kill@2", "--nodes", "4", "--backend", backend).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Error);
        Assert.That(Launched.Error, Does.Match(@"root cause: rank 2 \(node 2, local 0, pid \d+\)"));
        Assert.That(Launched.Error, Does.Contain("killed by signal 9 (SIGKILL)"));
        Assert.That(Launched.Processes, Is.Empty);
    }

    [Test]
    public void Native_crash_leaves_its_words_in_the_rank_log()
    {
        var code = Launched.Start("crash@0", "--nodes", "2", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Error);
        Assert.That(Launched.Error, Does.Contain("killed by signal 6 (SIGABRT)"));
        Assert.That(File.ReadAllText(Launched.Folder.LogFile(0)), Does.EndWith("native code gives up\n"));
        Assert.That(Launched.Error, Does.Contain("native code gives up"), "and in the report");
    }

    [Test]
    public void Rank_that_hears_nothing_is_killed()
    {
        var code = Launched.Start("freeze", "--nodes", "2", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Error);
        Assert.That(Launched.Error, Does.Contain("root cause: rank 0").And.Contain("another rank will not hear of this"));
        Assert.That(Launched.Processes, Is.Empty);
    }

    [Test]
    public void Dead_rank_is_the_cause_though_the_broken_collectives_are_reported_first()
    {
        var code = Launched.Start("broken", "--nodes", "4", "--backend", "gloo").End();

        Assert.That(Launched.Error, Does.Contain("root cause: rank 1").And.Contain("SIGKILL"));
        Assert.That(code, Is.EqualTo(ExitCodes.Failed));
        Assert.That(RankFailure.Read(Launched.Folder.ErrorFile(0)).Secondary, Is.True);
    }

    [Test]
    public void Time_out_without_a_dead_rank_names_the_silent_one()
    {
        var code = Launched.Start("timeout", "--nodes", "4", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Communication), Launched.Error);
        Assert.That(Launched.Error, Does.Contain("all_to_all of group expert").And.Contain("no word came from rank 1"));
        Assert.That(Launched.Processes, Is.Empty);
    }

    [Test]
    public void Rank_that_never_reports_ends_the_run()
    {
        var code = Launched.Start("mute", "--nodes", "1", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Error);
        Assert.That(Launched.Error, Does.Contain("did not report within 3 s"));
        Assert.That(Launched.Processes, Is.Empty);
    }

    [Test]
    public void Difference_found_by_verify_is_its_exit_code_and_no_failure()
    {
        var code = Launched.StartBare("verify", "verify", "--config", Launched.ConfigFile, "--run-dir", Launched.Folder.Path, "--nodes", "2", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(3), Launched.Error);
        Assert.That(Launched.Error, Does.Not.Contain("root cause"));
        Assert.That(File.ReadAllText(Launched.Folder.LogFile(0)), Does.Contain("arguments verify --config"));
    }

    [TestCase(2, "gloo"), TestCase(15, "gloo"), TestCase(10, "gloo"), TestCase(2, "mpi")]
    public void First_signal_stops_after_the_step_with_code_75(int signal, string backend)
    {
        var code = Launched.Start("endless", "--nodes", "2", "--backend", backend).Until("step=3").Signal(signal).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Stopped), Launched.Error);
        Assert.That(Launched.Output, Does.Contain("event=checkpoint"));
        Assert.That(Launched.Error, Does.Match("to continue: .*launch --config "));
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("stopped"));
        Assert.That(Launched.Processes, Is.Empty);
    }

    [TestCase(2, 130, "gloo"), TestCase(15, 143, "gloo"), TestCase(2, 130, "mpi")]
    public void Second_signal_leaves_at_once(int signal, int expected, string backend)
    {
        Launched.Start("freeze@1", "--nodes", "2", "--backend", backend).Until("step=4").Signal(signal).Until("stopping after this step");
        var code = Launched.Signal(signal).End();

        Assert.That(code, Is.EqualTo(expected), Launched.Error);
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("interrupted"));
        Assert.That(Launched.Processes, Is.Empty);
    }

    [TestCaseSource(nameof(Backends))]
    public void Ranks_end_when_their_launcher_is_killed(string backend)
    {
        Launched.Start("endless", "--nodes", "2", "--backend", backend).Until("step=3");
        Assert.That(Launched.Processes, Is.Not.Empty);

        Launched.Signal(9).End();

        Launched.Wait(() => Launched.Processes.Count == 0, "the end of the ranks");
    }

    [Test]
    public void Processes_that_a_rank_left_behind_are_ended()
    {
        var code = Launched.Start("litter", "--nodes", "1", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Stopped), Launched.Error);
        Assert.That(Launched.Processes, Is.Empty);
    }
}

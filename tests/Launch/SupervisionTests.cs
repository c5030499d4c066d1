using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>What becomes of a run, its exit code and its processes, however its ranks or its launcher end.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class SupervisionTests
{
    private static readonly string[] Backends = ["gloo", "mpi"];

    private LaunchedRun _run = null!;

    [SetUp]
    public void CreateRun() => _run = new LaunchedRun();

    [TearDown]
    public void DisposeRun() => _run.Dispose();

    [TestCaseSource(nameof(Backends))]
    public void Run_that_ends_well_is_done_with_code_0(string backend)
    {
        var code = _run.Start("done", "--nodes", "2", "--procs-per-node", "2", "--backend", backend).End();

        Assert.That(code, Is.Zero, _run.Error);
        Assert.That(_run.Record.GetProperty("status").GetString(), Is.EqualTo("done"));
        Assert.That(_run.Record.GetProperty("backend").GetString(), Is.EqualTo(backend));
        Assert.That(_run.Record.GetProperty("world_size").GetInt32(), Is.EqualTo(4));
        Assert.That(_run.Record.GetProperty("exit_code").GetInt32(), Is.Zero);
        Assert.That(_run.Record.GetProperty("mesh").GetString(), Is.EqualTo("replica 1 x expert 4"));
        Assert.That(_run.Record.GetProperty("parameters").GetProperty("active").GetInt64(), Is.EqualTo(3_100_000));
        Assert.That(_run.Processes, Is.Empty);
    }

    [TestCaseSource(nameof(Backends))]
    public void Each_rank_knows_its_place_and_its_arguments(string backend)
    {
        _run.Start("done", "--nodes", "2", "--procs-per-node", "2", "--backend", backend, "--set", "parallel.threads=3").End();

        for (var rank = 0; rank < 4; rank++)
        {
            var log = File.ReadAllText(_run.Folder.LogFile(rank));
            Assert.That(log, Does.Contain($"rank {rank} of 4, local {rank % 2} of 2, node {rank / 2}"));
            Assert.That(log, Does.Contain($"arguments train --config {_run.Folder.ConfigFile} --resume auto --backend {backend}"));
            Assert.That(log, Does.Contain("threads 3"));
        }
    }

    [TestCaseSource(nameof(Backends))]
    public void Rank_that_throws_is_the_root_cause_and_ends_the_others(string backend)
    {
        var code = _run.Start("throw@1", "--nodes", "4", "--backend", backend).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(_run.Error, Does.Contain("root cause: rank 1 (node 1, local 0, pid "));
        Assert.That(_run.Error, Does.Contain("the loss is not finite"));
        Assert.That(_run.Error, Does.Contain("rank_00001.log"));
        Assert.That(_run.Error, Does.Contain("3 rank(s) stopped by the launcher"));
        Assert.That(_run.Record.GetProperty("status").GetString(), Is.EqualTo("failed"));
        Assert.That(RankFailure.Read(_run.Folder.ErrorFile(1)).What, Does.Contain("the loss is not finite"));
        Assert.That(File.ReadAllText(_run.Folder.LogFile(1)), Does.Contain("at Moe.Tests.Launch.FakeRank"), "the log keeps the stack");
        Assert.That(_run.Error, Does.Not.Contain("   at "), "the console shows none");
        Assert.That(_run.Processes, Is.Empty);
    }

    [TestCaseSource(nameof(Backends))]
    public void Rank_that_exits_without_a_word_is_named(string backend)
    {
        var code = _run.Start("exit@1", "--nodes", "2", "--backend", backend).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(_run.Error, Does.Contain("root cause: rank 1"));
        Assert.That(_run.Processes, Is.Empty);
    }

    [TestCaseSource(nameof(Backends))]
    public void Killed_rank_is_named_with_rank_process_and_signal(string backend)
    {
        var code = _run.Start("kill@2", "--nodes", "4", "--backend", backend).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(_run.Error, Does.Match(@"root cause: rank 2 \(node 2, local 0, pid \d+\)"));
        Assert.That(_run.Error, Does.Contain("killed by signal 9 (SIGKILL)"));
        Assert.That(_run.Processes, Is.Empty);
    }

    [Test]
    public void Native_crash_leaves_its_words_in_the_rank_log()
    {
        var code = _run.Start("crash@0", "--nodes", "2", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(_run.Error, Does.Contain("killed by signal 6 (SIGABRT)"));
        Assert.That(File.ReadAllText(_run.Folder.LogFile(0)), Does.EndWith("native code gives up\n"));
        Assert.That(_run.Error, Does.Contain("native code gives up"), "and in the report");
    }

    [Test]
    public void Rank_that_hears_nothing_is_killed()
    {
        var code = _run.Start("freeze", "--nodes", "2", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(_run.Error, Does.Contain("root cause: rank 0").And.Contain("another rank will not hear of this"));
        Assert.That(_run.Processes, Is.Empty);
    }

    [Test]
    public void Dead_rank_is_the_cause_though_the_broken_collectives_are_reported_first()
    {
        var code = _run.Start("broken", "--nodes", "4", "--backend", "gloo").End();

        Assert.That(_run.Error, Does.Contain("root cause: rank 1").And.Contain("SIGKILL"));
        Assert.That(code, Is.EqualTo(ExitCodes.Failed));
        Assert.That(RankFailure.Read(_run.Folder.ErrorFile(0)).Secondary, Is.True);
    }

    [Test]
    public void Time_out_without_a_dead_rank_names_the_silent_one()
    {
        var code = _run.Start("timeout", "--nodes", "4", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Communication), _run.Error);
        Assert.That(_run.Error, Does.Contain("all_to_all of group expert").And.Contain("no word came from rank 1"));
        Assert.That(_run.Processes, Is.Empty);
    }

    [Test]
    public void Rank_that_never_reports_ends_the_run()
    {
        var code = _run.Start("mute", "--nodes", "1", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(_run.Error, Does.Contain("did not report within 3 s"));
        Assert.That(_run.Processes, Is.Empty);
    }

    [Test]
    public void Difference_found_by_verify_is_its_exit_code_and_no_failure()
    {
        var code = _run.StartBare("verify", "verify", "--config", _run.ConfigFile, "--run-dir", _run.Folder.Path, "--nodes", "2", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(3), _run.Error);
        Assert.That(_run.Error, Does.Not.Contain("root cause"));
        Assert.That(File.ReadAllText(_run.Folder.LogFile(0)), Does.Contain("arguments verify --config"));
    }

    [TestCase(2, "gloo"), TestCase(15, "gloo"), TestCase(10, "gloo"), TestCase(2, "mpi")]
    public void First_signal_stops_after_the_step_with_code_75(int signal, string backend)
    {
        var code = _run.Start("endless", "--nodes", "2", "--backend", backend).Until("step=3").Signal(signal).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Stopped), _run.Error);
        Assert.That(_run.Output, Does.Contain("event=checkpoint"));
        Assert.That(_run.Error, Does.Match("to continue: .*launch --config "));
        Assert.That(_run.Record.GetProperty("status").GetString(), Is.EqualTo("stopped"));
        Assert.That(_run.Processes, Is.Empty);
    }

    [TestCase(2, 130, "gloo"), TestCase(15, 143, "gloo"), TestCase(2, 130, "mpi")]
    public void Second_signal_leaves_at_once(int signal, int expected, string backend)
    {
        _run.Start("freeze@1", "--nodes", "2", "--backend", backend).Until("step=4").Signal(signal).Until("stopping after this step");
        var code = _run.Signal(signal).End();

        Assert.That(code, Is.EqualTo(expected), _run.Error);
        Assert.That(_run.Record.GetProperty("status").GetString(), Is.EqualTo("interrupted"));
        Assert.That(_run.Processes, Is.Empty);
    }

    [TestCaseSource(nameof(Backends))]
    public void Ranks_end_when_their_launcher_is_killed(string backend)
    {
        _run.Start("endless", "--nodes", "2", "--backend", backend).Until("step=3");
        Assert.That(_run.Processes, Is.Not.Empty);

        _run.Signal(9).End();

        _run.Wait(() => _run.Processes.Count == 0, "the end of the ranks");
    }

    [Test]
    public void Processes_that_a_rank_left_behind_are_ended()
    {
        var code = _run.Start("litter", "--nodes", "1", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Stopped), _run.Error);
        Assert.That(_run.Processes, Is.Empty);
    }
}

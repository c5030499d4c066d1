using System.Net;
using System.Net.Sockets;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>Launchers of several nodes that work as one run, here all on this machine: node 0's leads, and whatever fails ends all of them with the first cause named.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class NodeLauncherTests
{
    private const string Secret = "0123456789abcdef0123456789abcdef";

    private LaunchedRun _first = null!;
    private LaunchedRun _second = null!;
    private string _place = null!;

    [SetUp]
    public void CreateRuns()
    {
        _first = new LaunchedRun { Environment = { ["MOE_RDZV_TOKEN"] = Secret } };
        _second = new LaunchedRun { Environment = { ["MOE_RDZV_TOKEN"] = Secret } };
        using var probe = new TcpListener(IPAddress.Loopback, 0);
        probe.Start();
        _place = $"127.0.0.1:{((IPEndPoint)probe.LocalEndpoint).Port}";
    }

    [TearDown]
    public void DisposeRuns()
    {
        _first.Dispose();
        _second.Dispose();
    }

    [Test]
    public void Launchers_of_two_nodes_are_one_run()
    {
        StartSecond("done");
        StartFirst("done", "--set", "parallel.threads=3");

        Assert.That((_first.End(), _second.End()), Is.EqualTo((0, 0)), _first.Error + _second.Error);
        for (var rank = 0; rank < 4; rank++)
        {
            var log = File.ReadAllText(_first.Folder.LogFile(rank));
            Assert.That(log, Does.Contain($"rank {rank} of 4, local {rank % 2} of 2, node {rank / 2}"));
            Assert.That(log, Does.Contain($"arguments train --config {_first.Folder.ConfigFile} --resume auto --backend gloo").And.Contain("threads 3"));
        }

        Assert.That(_first.Output, Does.StartWith($"2 nodes: a launcher on each, 2 rank(s) a node over gloo; they meet at {_place}"));
        Assert.That(_second.Error, Does.StartWith("node 1 of 2 on "), "standard output is for the run's rows");
        Assert.That(_second.Output, Is.Empty);
        Assert.That(_first.Record.GetProperty("nodes").GetInt32(), Is.EqualTo(2));
        Assert.That(_first.Processes, Is.Empty);
    }

    [TestCase("throw@3", "the loss is not finite"), TestCase("kill@2", "killed by signal 9 (SIGKILL)"), TestCase("throw@0", "the loss is not finite")]
    public void Failure_on_any_node_ends_all_and_is_named_by_the_first_launcher(string behaviour, string what)
    {
        StartFirst(behaviour);
        StartSecond(behaviour);

        Assert.That((_first.End(), _second.End()), Is.EqualTo((ExitCodes.Failed, ExitCodes.Failed)), _first.Error);
        Assert.That(_first.Error, Does.Contain($"root cause: rank {behaviour[^1]} (node {(behaviour[^1] - '0') / 2}, local ").And.Contain(what));
        Assert.That(_second.Error, Does.Not.Contain("✗"), "one report is enough");
        Assert.That(_first.Processes, Is.Empty);
    }

    [Test]
    public void Frozen_rank_of_another_node_is_killed_by_its_launcher()
    {
        StartFirst("freeze");
        StartSecond("freeze");

        Assert.That((_first.End(), _second.End()), Is.EqualTo((ExitCodes.Failed, ExitCodes.Failed)), _first.Error);
        Assert.That(_first.Processes, Is.Empty);
    }

    [Test]
    public void Signal_to_any_launcher_stops_the_run_with_75([Values] bool second)
    {
        StartFirst("endless");
        StartSecond("endless");
        _first.Until("step=3");

        (second ? _second : _first).Signal(10);

        Assert.That((_first.End(), _second.End()), Is.EqualTo((ExitCodes.Stopped, ExitCodes.Stopped)), _first.Error);
        Assert.That(_first.Output, Does.Contain("event=checkpoint"));
        Assert.That(_first.Error, Does.Contain($"--node-rank 0 --rdzv {_place}"), "the command that continues");
    }

    [Test]
    public void Launcher_that_is_killed_is_named_and_its_ranks_end()
    {
        StartFirst("endless");
        StartSecond("endless");
        _first.Until("step=3");

        _second.Signal(9).End();

        Assert.That(_first.End(), Is.EqualTo(ExitCodes.Failed));
        Assert.That(_first.Error, Does.Contain("the launcher of node 1 is gone without a word"));
        _first.Wait(() => _first.Processes.Count == 0, "the end of the ranks");
    }

    [Test]
    public void Launchers_end_when_the_first_one_is_killed()
    {
        StartFirst("endless");
        StartSecond("endless");
        _first.Until("step=3");

        _first.Signal(9).End();

        Assert.That(_second.End(), Is.EqualTo(ExitCodes.Communication));
        Assert.That(_second.Error, Does.Contain($"the launcher of node 0 at {_place} is gone"));
        _first.Wait(() => _first.Processes.Count == 0, "the end of the ranks");
    }

    [Test]
    public void Launcher_that_was_told_other_numbers_is_refused_with_both()
    {
        StartFirst("endless");
        _second.StartBare("endless", "--config", _first.ConfigFile, "--nodes", "3", "--procs-per-node", "2", "--node-rank", "1", "--rdzv", _place);

        Assert.That((_first.End(), _second.End()), Is.EqualTo((ExitCodes.Usage, ExitCodes.Usage)));
        Assert.That(_first.Error + _second.Error, Does.Contain("was started for 3 node(s) of 2 rank(s), that of node 0 for 2 of 2"));
        Assert.That(_first.Processes, Is.Empty);
    }

    [Test]
    public void Launcher_with_another_secret_is_not_let_in()
    {
        _second.Environment["MOE_RDZV_TOKEN"] = "fedcba9876543210fedcba9876543210";
        StartFirst("endless");
        StartSecond("endless");

        Assert.That(_second.End(), Is.EqualTo(ExitCodes.Communication));
        Assert.That(_second.Error, Does.Contain("MOE_RDZV_TOKEN has to be the same on all nodes"));
        Assert.That(_second.Error + _first.Output, Does.Not.Contain("fedcba").And.Not.Contain(Secret));
    }

    [Test]
    public void Fault_of_the_configuration_is_told_once_and_ends_all()
    {
        StartFirst("done", "--set", "model.sequence_length=100001");
        StartSecond("done");

        Assert.That((_first.End(), _second.End()), Is.EqualTo((ExitCodes.Usage, ExitCodes.Usage)));
        Assert.That(_first.Error, Does.Contain("model.sequence_length"));
        Assert.That(_second.Error, Does.Contain("node 1 was sent away by the launcher of node 0"));
    }

    [Test]
    public void Node_that_does_not_come_is_named()
    {
        StartFirst("mute");

        Assert.That(_first.End(), Is.EqualTo(ExitCodes.Failed));
        Assert.That(_first.Error, Does.Contain("did not report within 3 s").Or.Contain("the launcher of node 1 did not come within 3 s"));
        Assert.That(_first.Processes, Is.Empty);
    }

    [Test]
    public void Launcher_without_a_first_one_says_where_it_looked()
    {
        StartSecond("mute");

        Assert.That(_second.End(), Is.EqualTo(ExitCodes.Communication));
        Assert.That(_second.Error, Does.Contain($"node 1 cannot reach the launcher of node 0 at {_place} after 3 s"));
    }

    [Test]
    public void Port_that_is_taken_is_one_clear_error()
    {
        using var taken = new TcpListener(IPEndPoint.Parse(_place));
        taken.Start();

        Assert.That(StartFirst("done").End(), Is.EqualTo(ExitCodes.Preflight));
        Assert.That(_first.Error, Does.Contain($"cannot listen on port {_place.Split(':')[1]}").And.Contain("--rdzv 127.0.0.1:PORT"));
    }

    [Test]
    public void Mpi_does_not_go_with_a_launcher_on_each_node()
    {
        StartFirst("done", "--backend", "mpi");

        Assert.That(_first.End(), Is.EqualTo(ExitCodes.Usage));
        Assert.That(_first.Error, Does.Contain("--backend mpi").And.Contain("--tasks ranks"));
    }

    private LaunchedRun StartFirst(string behaviour, params string[] more) =>
        _first.Start(behaviour, ["--nodes", "2", "--procs-per-node", "2", "--node-rank", "0", "--rdzv", _place, .. more]);

    private LaunchedRun StartSecond(string behaviour) =>
        _second.StartBare(behaviour, "--config", _first.ConfigFile, "--nodes", "2", "--procs-per-node", "2", "--node-rank", "1", "--rdzv", _place);
}

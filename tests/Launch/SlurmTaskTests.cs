using System.Text.Json;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary><c>launch --srun</c>: each rank is a task of srun, here of a program in its place that starts them on this machine with Slurm's variables.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class SlurmTaskTests
{
    private LaunchedRun _run = null!;

    [SetUp]
    public void CreateRun()
    {
        _run = new LaunchedRun
        {
            Environment =
            {
                ["SLURM_JOB_ID"] = "17", ["SLURM_JOB_NODELIST"] = "node[0-1]", ["SLURM_NTASKS"] = "4", ["SLURM_TASKS_PER_NODE"] = "2(x2)",
                ["SLURM_CPUS_PER_TASK"] = "1", ["MOE_RDZV"] = "127.0.0.1", ["ENVIRONMENT"] = "BATCH", ["SLURM_PROCID"] = "0", ["SLURM_NODEID"] = "0",
            },
        };
        _run.AddProgram("srun", $$"""
            #!/bin/bash
            echo "$*" >> '{{_run.Scratch}}/calls'
            while [[ $1 == --* ]]; do
              case $1 in --ntasks=*) n=${1#*=} ;; --ntasks-per-node=*) p=${1#*=} ;; esac
              shift
            done
            pids=()
            trap 'kill -TERM "${pids[@]}"' TERM
            for ((i = 0; i < n; i++)); do
              SLURM_STEP_ID=4 SLURM_PROCID=$i SLURM_NTASKS=$n SLURM_STEP_NUM_TASKS=$n SLURM_LOCALID=$((i % p)) SLURM_NODEID=$((i / p)) \
                SLURM_STEP_TASKS_PER_NODE="$p(x$((n / p)))" SLURM_STEP_NODELIST='node[0-1]' "$@" & pids+=($!)
            done
            code=0
            for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
            exit $code
            """);
        _run.AddProgram("scancel", $"#!/bin/sh\necho \"scancel $*\" >> '{_run.Scratch}/calls'\n");
    }

    [TearDown]
    public void DisposeRun() => _run.Dispose();

    private string Called => File.ReadAllText(Path.Combine(_run.Scratch, "calls"));

    [Test]
    public void Each_rank_takes_its_place_from_Slurm()
    {
        var code = _run.Start("done", "--srun", "--backend", "gloo").End();

        Assert.That(code, Is.Zero, _run.Error);
        for (var rank = 0; rank < 4; rank++)
        {
            var log = File.ReadAllText(_run.Folder.LogFile(rank));
            Assert.That(log, Does.Contain($"rank {rank} of 4, local {rank % 2} of 2, node {rank / 2}").And.Contain("threads 1"));
        }

        Assert.That(Called, Does.StartWith("--nodes=2 --ntasks=4 --ntasks-per-node=2 --kill-on-bad-exit=0 --distribution=block --cpus-per-task=1 sh -c "));
        Assert.That(_run.Output, Does.StartWith("2 node(s) of Slurm job 17 (node0, node1): 2 rank(s) a node over gloo, each a task of srun"));
        Assert.That(_run.Record.GetProperty("slurm_job").GetString(), Is.EqualTo("17"));
    }

    [Test]
    public void Mpi_starts_through_PMIx()
    {
        _run.Start("done", "--srun", "--backend", "mpi").End();

        Assert.That(Called, Does.Contain(" --mpi=pmix sh -c "));
    }

    [TestCase("throw@3", "the loss is not finite"), TestCase("exit@1", "ended with exit code 3 without a report")]
    public void Failure_of_a_task_ends_all(string behaviour, string what)
    {
        var code = _run.Start(behaviour, "--srun", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(_run.Error, Does.Contain($"root cause: rank {behaviour[^1]} (node {(behaviour[^1] - '0') / 2} (node{(behaviour[^1] - '0') / 2}), local ").And.Contain(what));
        _run.Wait(() => _run.Processes.Count == 0, "the end of all ranks");
    }

    [Test]
    public void Frozen_task_is_ended_through_Slurm()
    {
        var code = _run.Start("freeze", "--srun", "--backend", "gloo").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(Called, Does.Contain("scancel --signal=KILL 17.4"));
    }

    [Test]
    public void Signals_that_Slurm_repeats_do_not_cost_the_checkpoint()
    {
        _run.Start("endless", "--srun", "--backend", "gloo").Until("step=3");

        var code = _run.Signal(10).Signal(15).Signal(15).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Stopped), _run.Error);
        Assert.That(_run.Output, Does.Contain("event=checkpoint"));
        Assert.That(_run.Error, Does.Contain("the job continues in"));
    }

    [Test]
    public void Requeued_batch_job_finds_its_own_folder_and_resumes_by_itself()
    {
        Assert.That(_run.StartBare("done", "--config", _run.ConfigFile, "--srun", "--backend", "gloo", "--resume", "none").End(), Is.Zero, _run.Error);
        var folder = new RunFolder(Path.Combine(_run.Scratch, "runs", "tiny-17"));
        File.WriteAllText(folder.LatestFile, "step_00000005\n");
        _run.Environment["SLURM_RESTART_COUNT"] = "1";

        Assert.That(_run.StartBare("done", "--config", _run.ConfigFile, "--srun", "--backend", "gloo", "--resume", "none").End(), Is.Zero, _run.Error);

        Assert.That(JsonDocument.Parse(File.ReadAllText(folder.RunFile)).RootElement.GetProperty("attempt").GetInt32(), Is.EqualTo(2));
        Assert.That(File.ReadAllText(folder.LogFile(0)), Does.Contain("--resume none").And.Contain("--resume auto"));
    }

    [Test]
    public void Idle_nodes_of_a_job_are_told()
    {
        _run.Start("done", "--backend", "gloo").End();

        Assert.That(_run.Error, Does.Contain("warning: Slurm job 17 has 2 nodes, but all ranks run on this one"));
    }
}

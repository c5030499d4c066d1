using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Hosting;

/// <summary>A rank finds its place whoever started it.</summary>
internal sealed class RankEnvironmentTests
{
    [Test]
    public void Process_that_was_told_nothing_is_alone() =>
        Assert.That(Read(), Is.EqualTo(new RankEnvironment(0, 1, 0, 1, 0)));

    [Test]
    public void Torchruns_variables_are_understood()
    {
        var rank = Read("RANK=5", "WORLD_SIZE=8", "LOCAL_RANK=1", "LOCAL_WORLD_SIZE=4", "GROUP_RANK=1", "MASTER_ADDR=10.0.0.1", "MASTER_PORT=29500");

        Assert.That(rank, Is.EqualTo(new RankEnvironment(5, 8, 1, 4, 1, "10.0.0.1", 29500)));
    }

    [Test]
    public void Torchruns_attempts_are_told_apart() => Assert.That(Read("RANK=0", "WORLD_SIZE=2", "TORCHELASTIC_RESTART_COUNT=3").Restarts, Is.EqualTo(3));

    [TestCase("GLOO_SOCKET_IFNAME=ib0"), TestCase("GLOO_SOCKET_IFNAME=ib0,eth0")]
    public void Network_of_Gloo_is_the_one_that_is_named(string variable) => Assert.That(Read(variable).GlooInterface, Is.EqualTo("ib0"));

    [Test]
    public void Ranks_of_mpirun_are_grouped_into_the_launchers_nodes()
    {
        var rank = Read("OMPI_COMM_WORLD_RANK=3", "OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_RANK=3", "OMPI_COMM_WORLD_LOCAL_SIZE=4", "LOCAL_WORLD_SIZE=2");

        Assert.That(rank, Is.EqualTo(new RankEnvironment(3, 4, 1, 2, 1) { MachineRank = 3 }));
    }

    [Test]
    public void Ranks_of_several_nodes_on_one_machine_are_told_their_number_there()
    {
        var rank = Read("RANK=1", "WORLD_SIZE=2", "LOCAL_RANK=0", "LOCAL_WORLD_SIZE=1", "GROUP_RANK=1", "MOE_MACHINE_RANK=1", "OMPI_COMM_WORLD_LOCAL_RANK=7");

        Assert.That(rank, Is.EqualTo(new RankEnvironment(1, 2, 0, 1, 1) { MachineRank = 1 }));
    }

    [Test]
    public void Ranks_of_mpirun_alone_take_its_numbers()
    {
        var rank = Read("OMPI_COMM_WORLD_RANK=3", "OMPI_COMM_WORLD_SIZE=4", "OMPI_COMM_WORLD_LOCAL_RANK=1", "OMPI_COMM_WORLD_LOCAL_SIZE=2");

        Assert.That(rank, Is.EqualTo(new RankEnvironment(3, 4, 1, 2, 1)));
    }

    [Test]
    public void Slurms_variables_are_understood()
    {
        var rank = Read("SLURM_PROCID=2", "SLURM_NTASKS=4", "SLURM_LOCALID=0", "SLURM_NTASKS_PER_NODE=2", "SLURM_NODEID=1");

        Assert.That(rank, Is.EqualTo(new RankEnvironment(2, 4, 0, 2, 1)));
    }

    [Test]
    public void Task_of_srun_takes_all_from_the_step()
    {
        var rank = Read(
            "SLURM_JOB_ID=6007", "SLURM_STEP_ID=0", "SLURM_PROCID=4", "SLURM_STEP_NUM_TASKS=5", "SLURM_NTASKS=8", "SLURM_LOCALID=0", "SLURM_NODEID=2",
            "SLURM_STEP_TASKS_PER_NODE=2(x2),1", "SLURM_TASKS_PER_NODE=4(x2)", "SLURM_STEP_NODELIST=gpu[07-09]", "SLURM_JOB_NODELIST=gpu[01-09]");

        Assert.That(rank, Is.EqualTo(new RankEnvironment(4, 5, 0, 1, 2, "gpu07", 20_014, IsSlurmTask: true)));
    }

    [Test]
    public void Rank_of_a_launcher_that_is_a_task_takes_the_launchers_numbers()
    {
        var rank = Read(
            "RANK=3", "WORLD_SIZE=4", "LOCAL_RANK=1", "LOCAL_WORLD_SIZE=2", "GROUP_RANK=1", "MASTER_ADDR=a", "MASTER_PORT=7",
            "SLURM_JOB_ID=1", "SLURM_STEP_ID=0", "SLURM_PROCID=1", "SLURM_NTASKS=2", "SLURM_LOCALID=0", "SLURM_NODEID=1");

        Assert.That(rank, Is.EqualTo(new RankEnvironment(3, 4, 1, 2, 1, "a", 7, IsSlurmTask: true)));
    }

    [Test]
    public void World_of_the_launcher_that_is_not_sruns_is_refused_with_both_numbers() => Assert.That(
        () => Read("WORLD_SIZE=8", "LOCAL_WORLD_SIZE=2", "SLURM_PROCID=1", "SLURM_NTASKS=4"),
        Throws.TypeOf<FormatException>().With.Message.Contains("WORLD_SIZE says 8").And.Message.Contains("4 tasks (SLURM_NTASKS)"));

    [Test]
    public void More_tasks_on_a_node_than_the_launcher_asked_for_are_refused_with_both_numbers() => Assert.That(
        () => Read("WORLD_SIZE=4", "LOCAL_WORLD_SIZE=2", "SLURM_PROCID=3", "SLURM_NTASKS=4", "SLURM_LOCALID=3"),
        Throws.TypeOf<FormatException>().With.Message.Contains("LOCAL_WORLD_SIZE says 2").And.Message.Contains("local task 3 (SLURM_LOCALID)"));

    [TestCase("OMP_NUM_THREADS=3"), TestCase("OMP_NUM_THREADS=3,2,1")]
    public void Threads_are_those_that_the_starter_gives(string variable) => Assert.That(Read(variable).Threads, Is.EqualTo(3));

    [TestCase("RANK=two", "WORLD_SIZE=4", "RANK is 'two'")]
    [TestCase("RANK=4", "WORLD_SIZE=4", "rank 4 of 4")]
    public void Nonsense_is_refused_by_name(string first, string second, string complaint) =>
        Assert.That(() => Read(first, second), Throws.TypeOf<FormatException>().With.Message.Contains(complaint));

    private static RankEnvironment Read(params string[] variables)
    {
        var values = variables.Select(text => text.Split('=')).ToDictionary(pair => pair[0], pair => pair[1]);
        return RankEnvironment.Read(values.GetValueOrDefault);
    }
}

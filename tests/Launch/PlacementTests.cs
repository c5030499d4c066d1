using Moe.Launch;
using Moe.Launch.Hosts;
using Moe.Launch.Supervision;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>Where ranks are put, by flags, variables and Slurm, and that what contradicts itself is refused with both values and their origins.</summary>
internal sealed class PlacementTests
{
    private const string Secret = "MOE_RDZV_TOKEN=0123456789abcdef0123456789abcdef";

    private static readonly string[] Task =
    [
        "SLURM_JOB_ID=17", "SLURM_JOB_NODELIST=node[0-3]", "SLURM_STEP_ID=0", "SLURM_STEP_NODELIST=node[0-3]", "SLURM_STEP_NUM_TASKS=4", "SLURM_NODEID=2", Secret,
    ];

    private static readonly string[] Batch = ["SLURM_JOB_ID=17", "SLURM_JOB_NODELIST=node[0-1]", "SLURM_NTASKS=4", "SLURM_TASKS_PER_NODE=2(x2)", "SLURM_CPUS_PER_TASK=3", "MOE_RDZV=10.0.0.1"];

    [Test]
    public void Without_hosts_or_Slurm_all_ranks_are_on_this_machine() =>
        Assert.That(Place(new(Nodes: 4, ProcessesPerNode: 2)), Is.EqualTo(new Placed(new ThisMachine(), 4, 2)).Using<Placed>((a, b) => a.Nodes == b.Nodes && a.Placement.GetType() == b.Placement.GetType()));

    [Test]
    public void Launcher_that_is_a_task_takes_its_node_and_the_meeting_place_from_Slurm()
    {
        var placed = Place(new(ProcessesPerNode: 2), Task);

        Assert.That((placed.Nodes, placed.ProcessesPerNode), Is.EqualTo((4, 2)));
        Assert.That(placed.Placement, Is.TypeOf<LauncherPerNode>().With.Property("Node").EqualTo(2));
        Assert.That((placed.Placement.Address, placed.Placement.Port), Is.EqualTo(("node0", 20_034)));
        Assert.That(placed.Placement.Machines, Is.EqualTo(new[] { "node0", "node1", "node2", "node3" }));
    }

    [Test]
    public void Batch_shell_that_calls_srun_takes_nodes_and_ranks_from_the_job()
    {
        var placed = Place(new(ThroughSrun: true), Batch);

        Assert.That((placed.Nodes, placed.ProcessesPerNode, placed.Placement.Address), Is.EqualTo((2, 2, "10.0.0.1")));
        Assert.That(placed.Placement, Is.TypeOf<SlurmTasks>());
    }

    [Test]
    public void Shell_of_an_interactive_step_is_no_task() =>
        Assert.That(Place(new(Nodes: 2), [.. Task, "SLURM_PTY_PORT=4000"]).Placement, Is.TypeOf<ThisMachine>());

    [Test]
    public void Task_of_an_array_keeps_its_name() =>
        Assert.That(Place(new(), [.. Task, "SLURM_ARRAY_JOB_ID=11", "SLURM_ARRAY_TASK_ID=3"]).Placement.Job!.Name, Is.EqualTo("11_3"));

    [Test]
    public void Hand_given_node_meets_where_it_is_told()
    {
        var placed = Place(new(Nodes: 2, NodeRank: 1, Rendezvous: "a.example:29500"), Secret);

        Assert.That(placed.Placement, Is.TypeOf<LauncherPerNode>().With.Property("Node").EqualTo(1).And.Property("Address").EqualTo("a.example").And.Property("Port").EqualTo(29500));
    }

    [Test]
    public void Slots_of_a_host_file_are_ranks_a_node()
    {
        var file = Path.GetTempFileName();
        File.WriteAllText(file, "# two machines\n10.0.0.1 slots=4   # first\n\n10.0.0.2 slots=4\n");
        try
        {
            var placed = Place(new(HostFile: file, Rendezvous: "10.0.0.9"));

            Assert.That((placed.Nodes, placed.ProcessesPerNode), Is.EqualTo((2, 4)));
            Assert.That(placed.Placement.Machines, Is.EqualTo(new[] { "10.0.0.1", "10.0.0.2" }));
        }
        finally
        {
            File.Delete(file);
        }
    }

    private static IEnumerable<TestCaseData> Contradictions()
    {
        yield return Refusal(new(Nodes: 3), Task, "--nodes says 3", "SLURM_STEP_NODELIST says 4").SetArgDisplayNames("nodes of a step");
        yield return Refusal(new(NodeRank: 1), Task, "--node-rank says 1", "SLURM_NODEID says 2").SetArgDisplayNames("number of the node");
        yield return Refusal(new(), [.. Task, "MOE_NODE_RANK=0"], "MOE_NODE_RANK says 0", "SLURM_NODEID says 2").SetArgDisplayNames("number of the node by variable");
        yield return Refusal(new(), [.. Task, "SLURM_STEP_NUM_TASKS=8"], "8 launchers (SLURM_STEP_NUM_TASKS)", "4 node(s) (SLURM_STEP_NODELIST)").SetArgDisplayNames("launcher a rank");
        yield return Refusal(new(), [.. Task, "MOE_RDZV_TOKEN=short"], "MOE_RDZV_TOKEN", "export MOE_RDZV_TOKEN=").SetArgDisplayNames("no secret");
        yield return Refusal(new(Nodes: 4, ThroughSrun: true), Batch, "--nodes says 4", "SLURM_JOB_NODELIST says 2").SetArgDisplayNames("nodes of a job");
        yield return Refusal(new(ProcessesPerNode: 1, ThroughSrun: true), Batch, "--procs-per-node says 1", "SLURM_TASKS_PER_NODE says 2").SetArgDisplayNames("ranks of a node");
        yield return Refusal(new(ThroughSrun: true), [.. Batch, "SLURM_TASKS_PER_NODE=2,1"], "SLURM_TASKS_PER_NODE=2,1", "--ntasks-per-node").SetArgDisplayNames("uneven tasks");
        yield return Refusal(new(ThroughSrun: true), [], "--srun", "SLURM_JOB_ID is not set").SetArgDisplayNames("srun without a job");
        yield return Refusal(new(ThroughSrun: true), Task, "--srun", "4 of them (SLURM_STEP_NUM_TASKS)").SetArgDisplayNames("srun within srun");
        yield return Refusal(new(), ["SLURM_JOB_ID=x"], "Slurm job x", "'x' is no number").SetArgDisplayNames("job without a number");
        yield return Refusal(new(Nodes: 3, Hosts: "a,b"), [], "--nodes says 3", "--hosts (2 host(s)) says 2").SetArgDisplayNames("hosts");
        yield return Refusal(new(ProcessesPerNode: 3, Hosts: "a:4,b:2"), [], "--procs-per-node says 3", "b 2 slot(s)").SetArgDisplayNames("slots");
        yield return Refusal(new(Hosts: "a:4,b:2"), [], "b has 2 slot(s)", "a 4").SetArgDisplayNames("uneven slots");
        yield return Refusal(new(Hosts: "a,a"), [], "the host a is named twice", "slots=N").SetArgDisplayNames("host twice");
        yield return Refusal(new(Hosts: "a,-oProxyCommand=x"), [], "'-oProxyCommand=x' is no host", "names").SetArgDisplayNames("option as host");
        yield return Refusal(new(Hosts: "a,,b"), [], "'' is no host", "--hosts a,b,c").SetArgDisplayNames("empty host");
        yield return Refusal(new(Hosts: "a", HostFile: "f"), [], "--hosts and --hostfile", "one of them").SetArgDisplayNames("two lists");
        yield return Refusal(new(Hosts: "a", NodeRank: 1), [], "--hosts and --node-rank", "one of them").SetArgDisplayNames("list and number");
        yield return Refusal(new(HostFile: "nowhere"), [], "no such file", "slots=2").SetArgDisplayNames("no host file");
        yield return Refusal(new(Nodes: 2, NodeRank: 2, Rendezvous: "a:1"), [Secret], "--node-rank says 2", "the last is 1").SetArgDisplayNames("node beyond the last");
        yield return Refusal(new(NodeRank: 1, Rendezvous: "a:1"), [Secret], "--node-rank needs --nodes", "--nodes N").SetArgDisplayNames("number without nodes");
        yield return Refusal(new(Nodes: 2, NodeRank: 1), [Secret], "--node-rank needs --rdzv", "HOST:PORT").SetArgDisplayNames("number without a place");
        yield return Refusal(new(Nodes: 2, NodeRank: 1, Rendezvous: "a:b"), [Secret], "--rdzv is 'a:b'", "HOST:PORT").SetArgDisplayNames("place without a port");
    }

    [TestCaseSource(nameof(Contradictions))]
    public void Contradiction_is_refused_by_both_names(object request, string[] variables, string first, string second)
    {
        var refusal = Assert.Throws<LaunchException>(() => Place((PlacementRequest)request, variables));

        Assert.That(refusal.ExitCode, Is.EqualTo(ExitCodes.Usage));
        Assert.That(refusal.Message + refusal.Remedy, Does.Contain(first).And.Contain(second));
    }

    private static TestCaseData Refusal(PlacementRequest request, string[] variables, string first, string second) => new(request, variables, first, second);

    private static Placed Place(PlacementRequest request, params string[] variables)
    {
        var values = variables.Select(text => text.Split('=', 2)).GroupBy(pair => pair[0]).ToDictionary(group => group.Key, group => group.Last()[1]);
        return new PlacementChoice(request, values.GetValueOrDefault, Path.GetTempPath()).Make();
    }
}

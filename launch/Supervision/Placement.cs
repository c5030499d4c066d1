using Moe.Launch.Slurm;

namespace Moe.Launch.Supervision;

/// <summary>On which machines the ranks of a run live, and who starts them there.</summary>
/// <remarks>Ranks are numbered node by node: node n has the ranks from n times ranks a node on.</remarks>
internal abstract record Placement
{
    /// <summary>Host under which ranks find this launcher.</summary>
    public string Address { get; init; } = "127.0.0.1";

    /// <summary>Port of the control channel; 0 for one that is free.</summary>
    public int Port { get; init; }

    /// <summary>The job that this launcher runs in; null outside of Slurm.</summary>
    public SlurmJob? Job { get; init; }

    /// <summary>Names of the machines, node by node; empty where all are this one.</summary>
    public IReadOnlyList<string> Machines { get; init; } = [];

    /// <summary>Port of the TCP store: beside the control channel's where that is given, so that a firewall need open two; else 0, a free one.</summary>
    public int StorePort => Port == 0 ? 0 : Port + 1;

    /// <summary>Options of the command line that lead to this placement again, without nodes and ranks a node.</summary>
    public virtual IReadOnlyList<string> Options => [];

    /// <summary>Where the ranks are, for the first line of a run; null where all are on this machine.</summary>
    public virtual string? Describe(int nodes, int perNode, string backend) => null;

    private protected string Named => Machines.Count <= 8 ? string.Join(", ", Machines) : $"{Machines[0]} ... {Machines[^1]}";

    private protected string OfJob => Job is null ? "" : $" of Slurm job {Job.Name}";
}

/// <summary>All ranks on this machine, in as many local groups as there are nodes.</summary>
internal sealed record ThisMachine : Placement;

/// <summary>Each node has a launcher, which starts the ranks of its node. That of node 0 leads: ranks and launchers connect to it.</summary>
/// <param name="Node">Number of this launcher's node.</param>
/// <param name="Token">The secret that the launchers share.</param>
internal sealed record LauncherPerNode(int Node, string Token) : Placement
{
    public override IReadOnlyList<string> Options => Job is null ? ["--node-rank", "0", "--rdzv", $"{Address}:{Port}"] : [];

    public override string? Describe(int nodes, int perNode, string backend) =>
        $"{nodes} nodes{OfJob}{(Machines.Count > 0 ? $" ({Named})" : "")}: a launcher on each, {perNode} rank(s) a node over {backend}; they meet at {Address}:{Port}";
}

/// <summary>This launcher starts ranks on other machines: through mpirun, or each through ssh.</summary>
/// <param name="Ssh">The command that runs a command on a host: <c>SSH HOST COMMAND</c>.</param>
/// <param name="Given">The options that named the hosts.</param>
internal sealed record HostList(IReadOnlyList<string> Ssh, IReadOnlyList<string> Given) : Placement
{
    public override IReadOnlyList<string> Options => Given;

    public override string? Describe(int nodes, int perNode, string backend) =>
        $"{nodes} host(s) ({Named}): {perNode} rank(s) on each over {backend}, started by {(backend == "mpi" ? "mpirun" : Path.GetFileName(Ssh[0]))}";
}

/// <summary>This launcher has srun start each rank as a task of the Slurm allocation that it runs in.</summary>
internal sealed record SlurmTasks : Placement
{
    public override IReadOnlyList<string> Options => ["--srun"];

    public override string? Describe(int nodes, int perNode, string backend) =>
        $"{nodes} node(s){OfJob} ({Named}): {perNode} rank(s) a node over {backend}, each a task of srun";
}

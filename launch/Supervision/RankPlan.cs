using Moe.Launch.Slurm;
using Moe.Training.Hosting;

namespace Moe.Launch.Supervision;

/// <summary>All that the ranks of a run are started with.</summary>
/// <param name="Program">What to run.</param>
/// <param name="Mode">The rank's first argument: <c>train</c>, <c>verify</c> or <c>bench</c>.</param>
/// <param name="Backend"><c>mpi</c>, <c>gloo</c> or <c>nccl</c>.</param>
/// <param name="Nodes">Number of nodes: machines, or local groups of ranks.</param>
/// <param name="ProcessesPerNode">Ranks of a node.</param>
/// <param name="Threads">Threads of a rank's work on the CPU; at least 1.</param>
/// <param name="Resume"><c>auto</c>, <c>none</c> or the path of a checkpoint.</param>
/// <param name="Folder">The run folder, which exists.</param>
/// <param name="ModeArguments">Further arguments of the rank that belong to its mode.</param>
internal sealed record RankPlan(
    RankProgram Program,
    string Mode,
    string Backend,
    int Nodes,
    int ProcessesPerNode,
    int Threads,
    string Resume,
    RunFolder Folder,
    IReadOnlyList<string> ModeArguments)
{
    /// <summary>Where the ranks live.</summary>
    public Placement Placement { get; init; } = new ThisMachine();

    /// <summary>Threads of a rank as the configuration says; null where each node decides by its cores.</summary>
    public int? ThreadsAsked { get; init; }

    public int WorldSize => Nodes * ProcessesPerNode;

    /// <summary>Threads of a rank where nobody says otherwise: the cores that this process may use, divided.</summary>
    /// <param name="ranks">Ranks that share them.</param>
    /// <param name="job">Its count of cores, where it has one, is this process's share of a node.</param>
    public static int ThreadsOf(int ranks, SlurmJob? job) => Math.Max(1, Math.Min(Environment.ProcessorCount, job?.CpusPerTask ?? int.MaxValue) / ranks);

    /// <summary>Where a rank lives, in words.</summary>
    public string Place(int rank)
    {
        var node = NodeOf(rank);
        var machine = node < Placement.Machines.Count ? $" ({Placement.Machines[node]})" : "";
        return $"node {node}{machine}, local {rank % ProcessesPerNode}";
    }

    /// <summary>Number of a rank among all that run on its machine: nodes may be groups of ranks on one machine.</summary>
    public int MachineRankOf(int rank)
    {
        var node = NodeOf(rank);
        var earlier = Placement switch
        {
            ThisMachine => node,
            HostList { Machines: var machines } => machines.Take(node).Count(machine => machine == machines[node]),
            _ => 0,
        };
        return (earlier * ProcessesPerNode) + (rank % ProcessesPerNode);
    }

    public int NodeOf(int rank) => rank / ProcessesPerNode;

    /// <summary>Ranks of a node.</summary>
    public IEnumerable<int> RanksOf(int node) => Enumerable.Range(node * ProcessesPerNode, ProcessesPerNode);

    /// <summary>The rank's command line after the program's own arguments.</summary>
    public IReadOnlyList<string> Arguments =>
        [.. Program.Arguments, Mode, "--config", Folder.ConfigFile, "--resume", Resume, "--backend", Backend, .. ModeArguments];
}

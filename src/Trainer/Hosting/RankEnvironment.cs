using System.Globalization;

namespace Moe.Training.Hosting;

/// <summary>What the program that started a rank tells it through environment variables: torchrun's, Open MPI's or Slurm's, and our own.</summary>
/// <param name="Rank">World rank, from 0.</param>
/// <param name="WorldSize">Number of ranks.</param>
/// <param name="LocalRank">Rank within the node, from 0.</param>
/// <param name="LocalWorldSize">Number of ranks of the node.</param>
/// <param name="NodeRank">Number of the node, from 0 (torchrun's GROUP_RANK).</param>
/// <param name="MasterAddress">Host of the TCP store where the ranks of Gloo and of NCCL meet; null where none was given.</param>
/// <param name="MasterPort">Port of that store; 0 where none was given.</param>
/// <param name="RunFolder">MOE_RUN_DIR; null where the rank was not started by the launcher.</param>
/// <param name="Supervisor">MOE_SUPERVISOR, the launcher's <c>host:port</c>; null where the rank was not started by it.</param>
/// <param name="SupervisorToken">MOE_SUPERVISOR_TOKEN; null where the rank was not started by the launcher.</param>
/// <param name="Threads">OMP_NUM_THREADS, of a list its first number; null where it is not set.</param>
/// <param name="IsSlurmTask">Whether srun started this process, or a parent of it.</param>
public sealed record RankEnvironment(
    int Rank,
    int WorldSize,
    int LocalRank,
    int LocalWorldSize,
    int NodeRank,
    string? MasterAddress = null,
    int MasterPort = 0,
    string? RunFolder = null,
    string? Supervisor = null,
    string? SupervisorToken = null,
    int? Threads = null,
    bool IsSlurmTask = false)
{
    // Below the ports that Linux gives out by itself, and the same for all tasks of a job.
    private const int FirstSlurmPort = 20_000, SlurmPorts = 6_000;

    /// <summary>The port where the processes of a Slurm job meet, unless they are told another one; the one after it is theirs too.</summary>
    /// <param name="job">SLURM_JOB_ID.</param>
    public static int SlurmPort(int job) => FirstSlurmPort + 2 * (job % SlurmPorts);

    /// <summary>
    /// Rank among all ranks of this machine, from 0: which GPU is this rank's. MOE_MACHINE_RANK where the launcher's nodes are groups on one machine, else mpirun's
    /// local rank; otherwise a node is a machine.
    /// </summary>
    public int MachineRank { get; init; } = LocalRank;

    /// <summary>Ranks of each node where all have as many and the numbering goes node by node; else 1. It can differ between ranks where nodes differ.</summary>
    public int RanksPerNode => WorldSize % LocalWorldSize == 0 && NodeRank == Rank / LocalWorldSize ? LocalWorldSize : 1;

    /// <summary>TORCHELASTIC_RESTART_COUNT: how often torchrun has started the ranks anew, with a store that keeps what the attempts before left there; 0 where it is not set.</summary>
    public int Restarts { get; init; }

    /// <summary>GLOO_SOCKET_IFNAME, the network interface that other ranks connect to over Gloo, of a list its first; null for the one on the way to the store.</summary>
    public string? GlooInterface { get; init; }

    /// <summary>MOE_NCCL, the path of libnccl.so.2; null to search for it.</summary>
    public string? NcclLibrary { get; init; }

    /// <summary>Reads the variables; a process that was given none is the only rank of its world.</summary>
    /// <param name="variable">Value of a variable by name, null where it is not set; <see cref="Environment.GetEnvironmentVariable(string)"/>.</param>
    /// <exception cref="FormatException">A variable that must be a number is not, or the rank lies outside the world.</exception>
    public static RankEnvironment Read(Func<string, string?> variable)
    {
        // torchrun's names come first: they are what a user sets by hand. The launcher leaves RANK out where mpirun or srun numbers the ranks.
        var isTask = variable("SLURM_STEP_ID") is not null;
        var rank = Number(variable, "RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID") ?? 0;
        var worldSize = Number(variable, "WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") ?? 1;
        if (rank < 0 || rank >= worldSize)
        {
            throw new FormatException($"The environment says rank {rank} of {worldSize}; ranks go from 0 to {worldSize - 1}.");
        }

        var nodeRank = Number(variable, "GROUP_RANK") ?? (IsRankOfSlurm(variable) ? Number(variable, "SLURM_NODEID") : null);
        var localWorldSize = Number(variable, "LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")
            ?? TasksOfNode(variable, nodeRank)
            ?? Number(variable, "SLURM_NTASKS_PER_NODE")
            ?? worldSize;
        RefuseContradictions(variable, worldSize, localWorldSize);

        // LOCAL_WORLD_SIZE alone comes from the launcher, whose nodes may be groups of ranks on one machine: mpirun's local rank would not know them.
        var localRank = Number(variable, "LOCAL_RANK")
            ?? (variable("LOCAL_WORLD_SIZE") is null ? Number(variable, "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID") : null)
            ?? rank % localWorldSize;

        return new RankEnvironment(
            rank,
            worldSize,
            localRank,
            localWorldSize,
            nodeRank ?? rank / localWorldSize,
            variable("MASTER_ADDR") ?? (isTask ? FirstNode(variable) : null),
            Number(variable, "MASTER_PORT") ?? (isTask && Number(variable, "SLURM_JOB_ID") is { } job ? SlurmPort(job) : 0),
            variable("MOE_RUN_DIR"),
            variable("MOE_SUPERVISOR"),
            variable("MOE_SUPERVISOR_TOKEN"),
            Number(name => variable(name)?.Split(',')[0], "OMP_NUM_THREADS"),
            isTask)
        {
            MachineRank = Number(variable, "MOE_MACHINE_RANK") ?? (variable("RANK") is null ? Number(variable, "OMPI_COMM_WORLD_LOCAL_RANK") : null) ?? localRank,
            Restarts = Number(variable, "TORCHELASTIC_RESTART_COUNT") ?? 0,
            GlooInterface = variable("GLOO_SOCKET_IFNAME") is { Length: > 0 } interfaces ? interfaces.Split(',')[0] : null,
            NcclLibrary = variable("MOE_NCCL") is { Length: > 0 } library ? library : null,
        };
    }

    // A launcher that is a task itself hands its own numbers on; its ranks have RANK, and those of mpirun have mpirun's.
    private static bool IsRankOfSlurm(Func<string, string?> variable) => variable("RANK") is null && variable("OMPI_COMM_WORLD_RANK") is null;

    // Where srun numbers the ranks, it and whoever had srun started must mean the same world.
    private static void RefuseContradictions(Func<string, string?> variable, int worldSize, int localWorldSize)
    {
        if (!IsRankOfSlurm(variable) || Number(variable, "SLURM_PROCID") is null || Number(variable, "WORLD_SIZE") is null)
        {
            return;
        }

        if (Number(variable, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") is { } tasks && tasks != worldSize)
        {
            throw new FormatException($"WORLD_SIZE says {worldSize} ranks, but srun started {tasks} tasks (SLURM_NTASKS): a task is a rank here.");
        }

        if (Number(variable, "SLURM_LOCALID") is { } localId && localId >= localWorldSize)
        {
            throw new FormatException($"LOCAL_WORLD_SIZE says {localWorldSize} ranks a node, but this is local task {localId} (SLURM_LOCALID), counted from 0.");
        }
    }

    private static int? TasksOfNode(Func<string, string?> variable, int? nodeRank)
    {
        if (nodeRank is not { } node || (variable("SLURM_STEP_TASKS_PER_NODE") ?? variable("SLURM_TASKS_PER_NODE")) is not { Length: > 0 } list)
        {
            return null;
        }

        var tasks = SlurmNodeList.Tasks(list);
        return node < tasks.Count ? tasks[node] : null;
    }

    private static string? FirstNode(Func<string, string?> variable) =>
        (variable("SLURM_STEP_NODELIST") ?? variable("SLURM_JOB_NODELIST")) is { Length: > 0 } list ? SlurmNodeList.Names(list)[0] : null;

    private static int? Number(Func<string, string?> variable, params ReadOnlySpan<string> names)
    {
        foreach (var name in names)
        {
            if (variable(name) is { Length: > 0 } text)
            {
                return int.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out var number)
                    ? number
                    : throw new FormatException($"The environment variable {name} is '{text}'; it must be a whole number.");
            }
        }

        return null;
    }
}

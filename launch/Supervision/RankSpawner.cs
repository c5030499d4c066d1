using System.Globalization;

namespace Moe.Launch.Supervision;

/// <summary>Starts the processes of a run with torchrun's variables, so that other tools and their documentation apply to a rank.</summary>
internal static class RankSpawner
{
    /// <summary>Starts all ranks: one child a rank under Gloo, one mpirun for all of them under MPI.</summary>
    /// <param name="plan">What to start.</param>
    /// <param name="supervisor">Address of the control channel.</param>
    /// <param name="token">Its secret.</param>
    /// <param name="storePort">Port of the TCP store on 127.0.0.1; null where none is needed.</param>
    /// <param name="log">Takes what the children print.</param>
    /// <param name="rankEnded">Told rank and exit code of each rank that is no child of the launcher itself.</param>
    public static IReadOnlyList<SpawnedProcess> Start(
        RankPlan plan, string supervisor, string token, int? storePort, TextWriter log, Action<int, int> rankEnded)
    {
        var shared = SharedVariables(plan, supervisor, token, storePort);
        return plan.Backend == "mpi"
            ? [SpawnedProcess.Start(MpiCommand(plan), MpiVariables(shared), rank: null, log, Listen)]
            : [.. Enumerable.Range(0, plan.WorldSize).Select(rank => SpawnedProcess.Start(
                [plan.Program.FileName, .. plan.Arguments], RankVariables(plan, shared, rank), rank, log))];

        void Listen(string line)
        {
            if (RankEndLine.Parse(line) is var (rank, code))
            {
                rankEnded(rank, code);
            }
        }
    }

    private static Dictionary<string, string?> SharedVariables(RankPlan plan, string supervisor, string token, int? storePort) => new()
    {
        ["WORLD_SIZE"] = Text(plan.WorldSize),
        ["LOCAL_WORLD_SIZE"] = Text(plan.ProcessesPerNode),
        ["MASTER_ADDR"] = "127.0.0.1",
        ["MASTER_PORT"] = storePort is { } port ? Text(port) : null,
        ["OMP_NUM_THREADS"] = Text(plan.Threads),
        ["OPENBLAS_NUM_THREADS"] = Text(plan.Threads),
        ["MOE_RUN_DIR"] = Path.GetFullPath(plan.Folder.Path),
        ["MOE_COMMAND"] = Environment.CommandLine, // for the run's record; secrets are no arguments
        ["MOE_SUPERVISOR"] = supervisor,
        ["MOE_SUPERVISOR_TOKEN"] = token,
    };

    private static Dictionary<string, string?> RankVariables(RankPlan plan, Dictionary<string, string?> shared, int rank) => new(shared)
    {
        ["RANK"] = Text(rank),
        ["LOCAL_RANK"] = Text(rank % plan.ProcessesPerNode),
        ["GROUP_RANK"] = Text(rank / plan.ProcessesPerNode),
    };

    private static Dictionary<string, string?> MpiVariables(Dictionary<string, string?> shared)
    {
        var variables = new Dictionary<string, string?>(shared)
        {
            // mpirun numbers the ranks; what this process inherited must not be taken for their numbers.
            ["RANK"] = null,
            ["LOCAL_RANK"] = null,
            ["GROUP_RANK"] = null,

            // Ranks that outnumber the cores must yield while they wait: without, an all-to-all of 1 KB takes 8 ms instead of 8 us.
            ["OMPI_MCA_mpi_yield_when_idle"] = "1",

            // A rank that is the first to leave with 75 must not have the others killed while they still save.
            ["OMPI_MCA_orte_abort_on_non_zero_status"] = "0",
        };
        if (Environment.IsPrivilegedProcess)
        {
            variables["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
            variables["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
        }

        return variables;
    }

    // Two ranks would be bound to one core each, with all their threads, if mpirun chose.
    private static IEnumerable<string> MpiCommand(RankPlan plan) =>
    [
        "mpirun", "--oversubscribe", "--bind-to", "none", "-np", Text(plan.WorldSize),
        "sh", "-c", RankEndLine.Script, "sh", plan.Program.FileName, .. plan.Arguments,
    ];

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}

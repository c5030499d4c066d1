using System.Globalization;
using Moe.Torch.Native;

namespace Moe.Launch.Supervision;

/// <summary>The environment of ranks: torchrun's variables, so that other tools and their documentation apply to a rank, and our own.</summary>
/// <param name="Supervisor">Address of the control channel.</param>
/// <param name="Token">Its secret.</param>
/// <param name="StorePort">Port of the TCP store on the launcher's machine; null where none is needed.</param>
internal sealed record RankVariables(string Supervisor, string Token, int? StorePort)
{
    private static readonly string[] HandedOnPrefixes =
        ["MOE_", "MLFLOW_", "OMP_", "GOMP_", "OPENBLAS_", "MKL_", "NCCL_", "GLOO_", "TORCH_", "LIBTORCH", "CUDA_", "DOTNET_", "LD_LIBRARY_PATH"];

    private const string SpinCount = "GOMP_SPINCOUNT";

    // Threads of a process meet after each kernel. By default those that are done spin for milliseconds, on cores that other ranks, or the threads of
    // another library in the same process, may want; those that sleep at once are woken too late.
    private static string? Patience =>
        Environment.GetEnvironmentVariable(SpinCount) ?? (Environment.GetEnvironmentVariable("OMP_WAIT_POLICY") is null ? "10000" : null);

    /// <summary>Has threads of this process wait as those of a rank do, where it evaluates, samples or measures itself. Called before libtorch is loaded, which reads it then.</summary>
    public static void WaitAsRanksDo()
    {
        if (Patience is { } patience)
        {
            NativeEnvironment.SetDefault(SpinCount, patience);
        }
    }

    /// <summary>What all ranks have. A variable without a value is to be removed.</summary>
    public Dictionary<string, string?> Shared(RankPlan plan) => new()
    {
        ["WORLD_SIZE"] = Text(plan.WorldSize),
        ["LOCAL_WORLD_SIZE"] = Text(plan.ProcessesPerNode),
        ["MASTER_ADDR"] = plan.Placement.Address,
        ["MASTER_PORT"] = StorePort is { } port ? Text(port) : null,
        ["OMP_NUM_THREADS"] = Text(plan.Threads),
        ["OPENBLAS_NUM_THREADS"] = Text(plan.Threads),

        [SpinCount] = Patience,
        ["MOE_RUN_DIR"] = Path.GetFullPath(plan.Folder.Path),
        ["MOE_COMMAND"] = Environment.CommandLine, // for the run's record; secrets are no arguments
        ["MOE_SUPERVISOR"] = Supervisor,
        ["MOE_SUPERVISOR_TOKEN"] = Token,
        ["MOE_RDZV_TOKEN"] = null, // the launchers' own
        ["TORCHELASTIC_RESTART_COUNT"] = null, // the launcher's where torchrun started it; its ranks meet in its own store
    };

    /// <summary>What one rank has that the launcher numbers.</summary>
    public Dictionary<string, string?> OfRank(RankPlan plan, int rank) => new(Shared(plan))
    {
        ["RANK"] = Text(rank),
        ["LOCAL_RANK"] = Text(rank % plan.ProcessesPerNode),
        ["GROUP_RANK"] = Text(plan.NodeOf(rank)),
        ["MOE_MACHINE_RANK"] = Text(plan.MachineRankOf(rank)), // chooses the GPU
    };

    /// <summary>What ranks have that mpirun or srun numbers: what this process inherited must not be taken for their numbers.</summary>
    public Dictionary<string, string?> OfNumberedByOthers(RankPlan plan) => new(Shared(plan))
    {
        ["RANK"] = null,
        ["LOCAL_RANK"] = null,
        ["GROUP_RANK"] = null,
        ["MOE_MACHINE_RANK"] = null,

        // Ranks that outnumber the cores must yield while they wait: without, an all-to-all of 1 KB takes 8 ms instead of 8 us.
        ["OMPI_MCA_mpi_yield_when_idle"] = "1",
    };

    /// <summary>
    /// Variables of this process that ranks on other machines get as well: those that libraries and this program are steered by. Slurm hands all on.
    /// </summary>
    public static IEnumerable<KeyValuePair<string, string?>> HandedOn =>
        Environment.GetEnvironmentVariables().Cast<System.Collections.DictionaryEntry>()
            .Select(variable => KeyValuePair.Create((string)variable.Key, (string?)variable.Value))
            .Where(variable => Array.Exists(HandedOnPrefixes, prefix => variable.Key.StartsWith(prefix, StringComparison.Ordinal))
                && !variable.Key.StartsWith("MOE_RDZV", StringComparison.Ordinal) && variable.Value?.Contains('\n', StringComparison.Ordinal) == false);

    public static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}

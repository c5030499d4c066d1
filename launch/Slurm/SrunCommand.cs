using Moe.Launch.Supervision;

namespace Moe.Launch.Slurm;

/// <summary>The command line that starts all ranks as tasks of a Slurm step.</summary>
internal static class SrunCommand
{
    /// <summary>The first task prints this with the step's number after it, by which scancel finds tasks that don't hear their launcher.</summary>
    public const string StepMark = "launch: step ";

    private const string Script = $"[ \"$SLURM_PROCID\" != 0 ] || echo \"{StepMark}$SLURM_JOB_ID.$SLURM_STEP_ID\"; {RankEndLine.Script}";

    /// <summary>Writes it.</summary>
    /// <param name="plan">What to start.</param>
    /// <param name="job">The job that the step belongs to.</param>
    /// <param name="mpiType">SLURM_MPI_TYPE, the user's own choice of how MPI starts; null for ours.</param>
    public static IReadOnlyList<string> Of(RankPlan plan, SlurmJob job, string? mpiType) =>
    [
        "srun",
        $"--nodes={plan.Nodes}", $"--ntasks={plan.WorldSize}", $"--ntasks-per-node={plan.ProcessesPerNode}",

        // One rank that leaves must not have the others killed while they still save; the launcher ends them where one fails.
        "--kill-on-bad-exit=0",

        // Ranks are numbered node by node.
        "--distribution=block",

        // Slurm 22.05 and later no longer hand this on from the job to its steps.
        .. job.CpusPerTask is { } cpus ? [$"--cpus-per-task={cpus}"] : (string[])[],
        .. plan.Backend == "mpi" && mpiType is null ? ["--mpi=pmix"] : (string[])[],
        "sh", "-c", Script, "sh", plan.Program.FileName, .. plan.Arguments,
    ];
}

using System.Globalization;
using Moe.Training.Hosting;

namespace Moe.Launch.Slurm;

/// <summary>What Slurm says of the job that this process belongs to.</summary>
/// <param name="Number">SLURM_JOB_ID.</param>
/// <param name="Name">For people, <c>scontrol</c> and names of folders: <c>17</c>, of an array <c>17_3</c>. The same after a requeue.</param>
/// <param name="Hosts">Names of the nodes in their order.</param>
/// <param name="Restarts">How often the job was requeued.</param>
/// <param name="TasksPerNode">Tasks of each node, as the job asked for them; null where it did not.</param>
/// <param name="CpusPerTask">Null where the job did not ask for it.</param>
/// <param name="Step">What srun started this process as; null in the batch script itself.</param>
internal sealed record SlurmJob(
    int Number, string Name, IReadOnlyList<string> Hosts, int Restarts, IReadOnlyList<int>? TasksPerNode, int? CpusPerTask, SlurmStep? Step)
{
    /// <summary>Number of nodes.</summary>
    public int Nodes => Hosts.Count;

    /// <summary>Reads the variables.</summary>
    /// <returns>Null outside of a job.</returns>
    /// <exception cref="LaunchException">A variable is not what Slurm writes.</exception>
    public static SlurmJob? Read(Func<string, string?> variable)
    {
        if (variable("SLURM_JOB_ID") is not { Length: > 0 } id)
        {
            return null;
        }

        try
        {
            var array = variable("SLURM_ARRAY_JOB_ID") is { Length: > 0 } job ? $"{job}_{variable("SLURM_ARRAY_TASK_ID")}" : null;
            return new SlurmJob(
                Parse(id),
                array ?? id,
                SlurmNodeList.Names(variable("SLURM_JOB_NODELIST") is { Length: > 0 } list ? list : Environment.MachineName),
                Count(variable, "SLURM_RESTART_COUNT") ?? 0,
                variable("SLURM_TASKS_PER_NODE") is { Length: > 0 } tasks && variable("SLURM_NTASKS") is not null ? SlurmNodeList.Tasks(tasks) : null,
                Count(variable, "SLURM_CPUS_PER_TASK"),
                SlurmStep.Read(variable));
        }
        catch (FormatException e)
        {
            throw new LaunchException(ExitCodes.Usage, $"the environment speaks of Slurm job {id}, but not as Slurm does: {e.Message}", "unset its SLURM_ variables");
        }
    }

    /// <summary>A number from the environment; null where it is not set.</summary>
    public static int? Count(Func<string, string?> variable, string name) => variable(name) is { Length: > 0 } text ? Parse(text) : null;

    private static int Parse(string text) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number)
        ? number
        : throw new FormatException($"'{text}' is no number");
}

/// <summary>The step of srun that this process is a task of.</summary>
/// <param name="Node">SLURM_NODEID, from 0.</param>
/// <param name="Hosts">Names of the step's nodes.</param>
/// <param name="Tasks">Number of tasks in all.</param>
internal sealed record SlurmStep(int Node, IReadOnlyList<string> Hosts, int Tasks)
{
    /// <summary>Reads the variables; a shell that was opened by <c>srun --pty</c> is no task to Slurm's count, but a place to work in.</summary>
    public static SlurmStep? Read(Func<string, string?> variable)
    {
        if (variable("SLURM_STEP_ID") is null || variable("SLURM_PTY_PORT") is not null)
        {
            return null;
        }

        var hosts = SlurmNodeList.Names(variable("SLURM_STEP_NODELIST") ?? variable("SLURM_JOB_NODELIST") ?? Environment.MachineName);
        return new SlurmStep(
            SlurmJob.Count(variable, "SLURM_NODEID") ?? 0, hosts, SlurmJob.Count(variable, "SLURM_STEP_NUM_TASKS") ?? SlurmJob.Count(variable, "SLURM_NTASKS") ?? hosts.Count);
    }
}

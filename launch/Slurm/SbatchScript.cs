using Moe.Launch.Hosts;

namespace Moe.Launch.Slurm;

/// <summary>Writes a job script as a person would: complete, commented, and to be changed by hand.</summary>
internal static class SbatchScript
{
    // Slurm sends the signal up to a minute earlier than asked.
    private const int SignalSeconds = 120;

    /// <summary>The whole script.</summary>
    public static string Write(SbatchOptions options) => string.Join(
        "\n\n", [Head(options), Where(options), Settings(options), Start(options), Wait, Requeue(options)]) + "\n";

    private static string Head(SbatchOptions options)
    {
        var tasks = options.TaskPerRank ? options.ProcessesPerNode : 1;
        List<string> lines =
        [
            "#!/bin/bash",
            $"# Trains {options.Config.ReplaceLineEndings(" ")} on {options.Nodes} node(s) of {options.ProcessesPerNode} rank(s): " + (options.TaskPerRank ? "each rank is a task of Slurm." : "a launcher on each node starts its ranks."),
            "# Submit with `sbatch FILE` from the project's folder; docs/slurm.md says what happens then.",
            $"#SBATCH --job-name={options.JobName}",
            $"#SBATCH --nodes={options.Nodes}",
            $"#SBATCH --ntasks-per-node={tasks}",
        ];
        Add(lines, "cpus-per-task", options.CpusPerTask?.ToString(System.Globalization.CultureInfo.InvariantCulture));
        Add(lines, "gpus-per-node", options.GpusPerNode > 0 ? options.GpusPerNode.ToString(System.Globalization.CultureInfo.InvariantCulture) : null);
        Add(lines, "mem", options.Memory);
        Add(lines, "time", options.Time);
        Add(lines, "partition", options.Partition);
        Add(lines, "account", options.Account);
        Add(lines, "qos", options.Quality);
        lines.AddRange(options.Further.Select(further => $"#SBATCH {further}"));
        lines.AddRange(
        [
            $"#SBATCH --output={options.Output}",
            "#SBATCH --open-mode=append",
            "#SBATCH --requeue",
            $"#SBATCH --signal=B:USR1@{SignalSeconds}",
            "# The last four: one log a job, which goes on after a requeue; and two to three minutes before the time limit SIGUSR1 to this shell (B:).",
            "set -u",
        ]);
        return string.Join('\n', lines);
    }

    private static string Where(SbatchOptions options) => $$"""
        # The same name after a requeue (of an array's task too), so that the run finds its own checkpoints.
        job=$SLURM_JOB_ID
        [ -z "${SLURM_ARRAY_JOB_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
        run={{(options.RunFolder is { } folder ? ShellWords.Quote(folder) : $"{ShellWords.Quote(options.RunsFolder)}/$SLURM_JOB_NAME-$job")}}
        """;

    private static string Settings(SbatchOptions options)
    {
        List<string> lines = options.TaskPerRank ? [] :
        [
            "# Launchers meet at the first node, on two ports that follow from the job, as others may use the node; the secret is this job's.",
            "master=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)",
            "export MOE_RDZV=${MOE_RDZV:-$master:$((20000 + SLURM_JOB_ID % 6000 * 2))}",
            "MOE_RDZV_TOKEN=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n')",
            "export MOE_RDZV_TOKEN",
        ];
        if (options.TaskPerRank)
        {
            lines.AddRange(
            [
                "# Ranks find the launcher, which runs beside this shell, at the first node.",
                "master=$(scontrol show hostnames \"$SLURM_JOB_NODELIST\" | head -n 1)",
                "export MOE_RDZV=${MOE_RDZV:-$master}",
                "",
                "# Where ranks outnumber the cores they must yield while they wait: mpirun sees that by itself, srun can't.",
                "export OMPI_MCA_mpi_yield_when_idle=1",
            ]);
        }

        if (options.GpusPerNode > 0)
        {
            lines.AddRange(
            [
                "",
                "# On hosts that jobs share: NVLink multicast is one for the whole host, and NCCL fails to start where another job holds it.",
                "# export NCCL_NVLS_ENABLE=0",
                "# export NCCL_DEBUG=WARN NCCL_SOCKET_IFNAME=ib0   # which network NCCL takes, and what it has to say",
            ]);
        }

        return string.Join('\n', lines);
    }

    private static string Start(SbatchOptions options)
    {
        var launch = ShellWords.Join(options.Program);
        List<string> lines = options.TaskPerRank
            ? [$"{launch} train --srun \\"]
            : [
                "# One launcher that leaves must not have the others killed while they still save; they end each other where one fails.",
                $"srun --kill-on-bad-exit=0{(options.CpusPerTask is { } cpus ? $" --cpus-per-task={cpus}" : "")} {launch} train \\",
            ];
        lines.Add($"  --config {ShellWords.Quote(options.Config)} --nodes {options.Nodes} --procs-per-node {options.ProcessesPerNode} \\");
        List<string> rest = ["--run-dir \"$run\""];
        if (options.Backend != "auto")
        {
            rest.Add($"--backend {options.Backend}");
        }

        rest.Add($"--resume {ShellWords.Quote(options.Resume)}");
        lines.Add($"  {string.Join(' ', rest)}" + (options.Overrides.Count > 0 ? " \\" : " &"));
        for (var i = 0; i < options.Overrides.Count; i++)
        {
            lines.Add($"  --set {ShellWords.Quote(options.Overrides[i])}" + (i < options.Overrides.Count - 1 ? " \\" : " &"));
        }

        var traps = $"""
            # Signals end `wait`, not the training. SIGUSR1: the time is nearly up; the launcher{(options.TaskPerRank ? " saves and leaves" : "s save and leave")} with 75. SIGTERM: cancelled, or
            # preempted; Slurm tells the training itself, and this shell only waits for it to save.
            requeue=no woken=no pid=
            trap 'requeue=yes woken=yes; [ -z "$pid" ] || kill -USR1 "$pid"' USR1
            trap 'woken=yes' TERM
            """;
        return traps + "\n\n" + string.Join('\n', lines) + "\npid=$!";
    }

    private const string Wait = """
        wait "$pid"; code=$?
        while [ "$woken" = yes ]; do
          woken=no
          wait "$pid"; code=$?
        done
        """;

    private static string Requeue(SbatchOptions options) => $$"""
        # Out of time, but not done: back to the queue, at most {{options.MaxRequeues}} time(s). Slurm starts it again after about two minutes, and it continues in $run.
        if [ "$code" -eq 75 ] && [ "$requeue" = yes ]; then
          if [ "${SLURM_RESTART_COUNT:-0}" -lt {{options.MaxRequeues}} ]; then
            scontrol requeue "$job"
          else
            echo "job $job was requeued ${SLURM_RESTART_COUNT:-0} time(s), its limit; to continue: launch slurm submit ... --run-dir $run" >&2
          fi
        fi
        exit "$code"
        """;

    private static void Add(List<string> lines, string name, string? value)
    {
        if (value is not null)
        {
            lines.Add($"#SBATCH --{name}={value}");
        }
    }
}

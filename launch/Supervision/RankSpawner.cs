using Moe.Launch.Hosts;
using Moe.Launch.Slurm;

namespace Moe.Launch.Supervision;

/// <summary>Starts the processes of a run: a child a rank, or one mpirun or srun for all of them.</summary>
internal static class RankSpawner
{
    /// <summary>Starts the ranks that are this launcher's to start.</summary>
    /// <param name="plan">What to start.</param>
    /// <param name="variables">What ranks are told.</param>
    /// <param name="log">Takes what the children print.</param>
    /// <param name="rankEnded">Told rank and exit code of each rank that is no child of the launcher itself.</param>
    public static RankProcesses Start(RankPlan plan, RankVariables variables, TextWriter log, Action<int, int> rankEnded)
    {
        return new RankProcesses(plan.Placement switch
        {
            LauncherPerNode here => [.. plan.RanksOf(here.Node).Select(Child)],
            SlurmTasks { Job: { } job } => [Crowd(SrunCommand.Of(plan, job, Environment.GetEnvironmentVariable("SLURM_MPI_TYPE")), variables.OfNumberedByOthers(plan))],
            _ when plan.Backend == "mpi" => [Crowd(MpiCommand(plan, variables), MpiVariables(plan, variables))],
            HostList hosts => [.. Enumerable.Range(0, plan.WorldSize).Select(rank => Remote(hosts, rank))],
            _ => (IReadOnlyList<SpawnedProcess>)[.. Enumerable.Range(0, plan.WorldSize).Select(Child)],
        });

        SpawnedProcess Child(int rank) => SpawnedProcess.Start([plan.Program.FileName, .. plan.Arguments], variables.OfRank(plan, rank), rank, log);

        SpawnedProcess Crowd(IReadOnlyList<string> command, Dictionary<string, string?> environment) =>
            SpawnedProcess.Start(command, environment, rank: null, log, Listen);

        SpawnedProcess Remote(HostList hosts, int rank)
        {
            var host = hosts.Machines[plan.NodeOf(rank)];
            return SpawnedProcess.Start(
                RemoteShell.Command(hosts.Ssh, host, Directory.GetCurrentDirectory(), [plan.Program.FileName, .. plan.Arguments]),
                new Dictionary<string, string?> { ["MOE_RDZV_TOKEN"] = null },
                rank,
                log,
                greeting: RemoteShell.Greeting([.. RankVariables.HandedOn, .. variables.OfRank(plan, rank)]));
        }

        void Listen(string line)
        {
            if (RankEndLine.Parse(line) is var (rank, code))
            {
                rankEnded(rank, code);
            }
        }
    }

    private static Dictionary<string, string?> MpiVariables(RankPlan plan, RankVariables variables)
    {
        var environment = new Dictionary<string, string?>(variables.OfNumberedByOthers(plan))
        {
            // A rank that is the first to leave with 75 must not have the others killed while they still save.
            ["OMPI_MCA_orte_abort_on_non_zero_status"] = "0",
        };
        if (Environment.IsPrivilegedProcess)
        {
            environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
            environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
        }

        if (plan.Placement is HostList hosts)
        {
            environment["OMPI_MCA_plm_rsh_agent"] = string.Join(' ', hosts.Ssh);

            // The list counts, also within an allocation of Slurm.
            environment["OMPI_MCA_plm"] = "rsh";
            environment["OMPI_MCA_ras"] = "^slurm";
        }

        return environment;
    }

    // Two ranks would be bound to one core each, with all their threads, if mpirun chose. To other machines mpirun hands on what is named here; the
    // values stay out of its argument list.
    private static IReadOnlyList<string> MpiCommand(RankPlan plan, RankVariables variables) =>
    [
        "mpirun", "--oversubscribe", "--bind-to", "none", "-np", RankVariables.Text(plan.WorldSize),
        .. plan.Placement is HostList hosts
            ? (string[])
            [
                "--host", string.Join(',', hosts.Machines.Select(host => $"{host}:{plan.ProcessesPerNode}")),
                .. RankVariables.HandedOn.Concat(variables.Shared(plan)).Where(variable => variable.Value is not null).Select(variable => variable.Key)
                    .Where(name => !name.StartsWith("OMPI_", StringComparison.Ordinal)).Distinct().SelectMany(name => (string[])["-x", name]),
            ]
            : [],
        "sh", "-c", RankEndLine.Script, "sh", plan.Program.FileName, .. plan.Arguments,
    ];
}

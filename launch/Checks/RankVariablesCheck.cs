using Moe.Training.Hosting;

namespace Moe.Launch.Checks;

/// <summary>Variables by which torchrun, Open MPI and Slurm number ranks: what contradicts itself would start the wrong ranks.</summary>
internal sealed class RankVariablesCheck : Check
{
    // The same number under the names of different starters.
    private static readonly string[][] Alike =
    [
        ["RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"],
        ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"],
        ["SLURM_NTASKS", "SLURM_NPROCS"],
        ["SLURM_NNODES", "SLURM_JOB_NUM_NODES"],
        ["GROUP_RANK", "SLURM_NODEID"],
    ];

    public override string Name => "rank variables";

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        var found = new List<Finding>();
        foreach (var names in Alike)
        {
            var given = names.Select(name => (Name: name, Value: context.Variable(name))).Where(pair => pair.Value is not null).ToList();
            if (given.Select(pair => pair.Value).Distinct().Count() > 1)
            {
                found.Add(new Finding(Verdict.Fails, $"rank variables: {string.Join(" and ", given.Select(pair => $"{pair.Name}={pair.Value}"))} contradict each other", $"unset {given[0].Name}"));
            }
        }

        if (Number("SLURM_NTASKS") is { } tasks && Number("SLURM_NNODES") is { } nodes && Number("SLURM_NTASKS_PER_NODE") is { } perNode && tasks > nodes * perNode)
        {
            found.Add(new Finding(Verdict.Fails, $"rank variables: SLURM_NTASKS={tasks} are more than SLURM_NNODES={nodes} times SLURM_NTASKS_PER_NODE={perNode}", "sbatch --ntasks-per-node"));
        }

        try
        {
            _ = RankEnvironment.Read(context.Variable);
        }
        catch (FormatException e)
        {
            found.Add(new Finding(Verdict.Fails, $"rank variables: {e.Message}", "unset the variable"));
        }

        var any = Alike.SelectMany(names => names).Any(name => context.Variable(name) is not null);
        return found.Count > 0 ? found : [any ? Finding.Works("rank variables agree") : Finding.Skipped("rank variables: none is set")];

        int? Number(string name) => int.TryParse(context.Variable(name), out var number) ? number : null;
    }
}

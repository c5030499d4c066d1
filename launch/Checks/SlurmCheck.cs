namespace Moe.Launch.Checks;

/// <summary>Slurm: version, partitions, and nodes that take no work.</summary>
internal sealed class SlurmCheck : Check
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    // As sinfo spells them, with a mark behind where a node does not answer.
    private static readonly string[] Useless = ["down", "drain", "drng", "fail", "maint", "unk", "boot"];

    // Without a slurm.conf the programs look for a controller in DNS, and say so where there is none.
    private const string NoConfiguration = "resolve_ctls_from_dns_srv";

    public override string Name => "Slurm";

    public override TimeSpan Limit => TimeSpan.FromSeconds(15);

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        if (context.Program("sinfo") is not { } sinfo)
        {
            yield return context.Variable("SLURM_JOB_ID") is { } job
                ? new Finding(Verdict.Warns, $"Slurm: SLURM_JOB_ID={job}, but there is no sinfo on PATH", "install slurm-client on the compute nodes")
                : Finding.Skipped("Slurm: no sinfo on PATH");
            yield break;
        }

        var version = ProgramRun.Of(sinfo, ["--version"], Patience);
        var list = ProgramRun.Of(sinfo, ["--noheader", "--format=%P %a %D %t"], Patience);
        if (!list.Succeeded)
        {
            // Its programs may be installed where nobody runs it.
            var isInJob = context.Variable("SLURM_JOB_ID") is not null;
            yield return !isInJob && list.Trouble.Contains(NoConfiguration, StringComparison.Ordinal)
                ? Finding.Skipped("Slurm: its programs are here, but no slurm.conf that names a cluster")
                : new Finding(isInJob ? Verdict.Fails : Verdict.Warns, $"Slurm: sinfo: {list.Trouble}", "is slurmctld up? scontrol ping");
            yield break;
        }

        var rows = list.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries)).Where(words => words.Length == 4).ToList();
        var groups = rows.GroupBy(words => words[0]).Select(partition => $"{partition.Key} {string.Join(" ", partition.Select(words => $"{words[2]} {words[3]}"))}");
        yield return rows.Count > 0
            ? Finding.Works($"Slurm: {version.FirstLine}; {string.Join("; ", groups)}")
            : new Finding(Verdict.Fails, $"Slurm: {version.FirstLine} has no partition", "slurm.conf: PartitionName=...");
        var useless = rows.Where(words => Useless.Any(state => words[3].StartsWith(state, StringComparison.Ordinal)) || words[3].EndsWith('*')).ToList();
        if (useless.Count > 0)
        {
            yield return new Finding(Verdict.Warns, $"Slurm: {string.Join(", ", useless.Select(words => $"{words[2]} node(s) of {words[0]} {words[3]}"))}", "sinfo -R says why; scontrol update NodeName=... State=RESUME");
        }

        foreach (var words in rows.Where(words => words[1] != "up").DistinctBy(words => words[0]))
        {
            yield return new Finding(Verdict.Warns, $"Slurm: partition {words[0]} is {words[1]}", $"scontrol update PartitionName={words[0].TrimEnd('*')} State=UP");
        }
    }
}

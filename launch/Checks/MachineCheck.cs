using System.Runtime.InteropServices;
using Moe.Launch.Terminal;

namespace Moe.Launch.Checks;

/// <summary>Runtime, cores and memory, against the ranks that were asked for.</summary>
internal sealed class MachineCheck : Check
{
    private const double GibiByte = 1 << 30;

    // Four ranks of the quickstart take about 1.6 GiB.
    private const double GibPerRank = 0.5;

    public override string Name => "machine";

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        var (cores, ranks) = (Environment.ProcessorCount, context.RanksPerNode ?? 1);
        var memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / GibiByte;
        var text = MetricText.Invariant($"machine: .NET {Environment.Version} on {RuntimeInformation.RuntimeIdentifier}, {cores} cores, {memory:F1} GiB memory");
        yield return memory < GibPerRank * Math.Max(4, ranks)
            ? new Finding(Verdict.Warns, text, "4 ranks of the quickstart take about 2 GiB: fewer ranks, or launch plan for what yours take")
            : Finding.Works(text);
        if (context.RanksPerNode is not null)
        {
            yield return ranks > cores
                ? new Finding(Verdict.Warns, $"ranks: {ranks} share {cores} cores", $"--procs-per-node {cores}, unless it is a test")
                : Finding.Works($"ranks: {ranks} on {cores} cores, {Math.Max(1, cores / ranks)} thread(s) each");
        }
    }
}

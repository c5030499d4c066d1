namespace Moe.Launch.Checks;

/// <summary>NVIDIA GPUs by nvidia-smi: how many, how large, and whether they reach each other's memory.</summary>
internal sealed class GpuCheck : Check
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(8);

    public override string Name => "GPU";

    public override TimeSpan Limit => TimeSpan.FromSeconds(20);

    public override IEnumerable<Finding> Examine(DoctorContext context)
    {
        if (context.Program("nvidia-smi") is not { } program)
        {
            yield return Finding.Skipped("GPU: no nvidia-smi on PATH");
            yield break;
        }

        var list = ProgramRun.Of(program, ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"], Patience);
        string[] cards = [.. list.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)];
        if (!list.Succeeded || cards.Length == 0)
        {
            yield return new Finding(Verdict.Fails, $"GPU: nvidia-smi: {(list.Succeeded ? "it lists none" : list.Trouble)}", "load the driver: nvidia-smi says what it misses");
            yield break;
        }

        foreach (var alike in cards.GroupBy(card => card))
        {
            yield return Finding.Works($"GPU: {alike.Count()}x {alike.Key.Replace(", ", " | ", StringComparison.Ordinal)}");
        }

        if (context.RanksPerNode is { } ranks && ranks > cards.Length)
        {
            yield return new Finding(Verdict.Warns, $"GPU: {ranks} ranks share {cards.Length} GPU(s)", $"--procs-per-node {cards.Length}");
        }

        if (cards.Length > 1)
        {
            yield return Peers(program, cards.Length);
        }
    }

    // A row a GPU: OK where it reads the column's memory, X for itself.
    private static Finding Peers(string program, int cards)
    {
        var topology = ProgramRun.Of(program, ["topo", "-p2p", "r"], Patience);
        if (!topology.Succeeded)
        {
            return new Finding(Verdict.Warns, $"GPU: peer access unknown: nvidia-smi topo: {topology.Trouble}", "nvidia-smi topo -p2p r");
        }

        var rows = topology.Output.Split('\n').Select(line => line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))
            .Where(words => words.Length > cards && words[0].StartsWith("GPU", StringComparison.Ordinal)).ToList();
        var open = rows.Sum(words => words.Skip(1).Take(cards).Count(word => word == "OK"));
        var pairs = cards * (cards - 1);
        return open == pairs
            ? Finding.Works($"GPU: peer access between all pairs of {cards}")
            : new Finding(Verdict.Warns, $"GPU: peer access between {open / 2} of {pairs / 2} pairs", "nvidia-smi topo -m; in a virtual machine the host must allow it");
    }
}

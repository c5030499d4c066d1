using System.Globalization;
using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>What a run does to keep within <c>train.memory_budget</c>.</summary>
/// <param name="Choice">What is computed again and offloaded.</param>
/// <param name="Plan">The planned bytes with it.</param>
/// <param name="Budget">Bytes; null without one.</param>
/// <param name="Operations">That backward makes once more, as a share of those of a step.</param>
public sealed record MemoryDecision(MemoryChoice Choice, MemoryPlan Plan, long? Budget, double Operations)
{
    /// <summary>One line for the console and the events.</summary>
    public override string ToString()
    {
        var planned = $"{Choice}: {ByteSize.Write(Plan.Peak)} planned for the tensors of the fullest rank";
        var within = Budget is { } budget ? $", of {ByteSize.Write(budget)} (train.memory_budget)" : "";
        return planned + within + (Operations > 0 ? string.Create(CultureInfo.InvariantCulture, $"; {100 * Operations:0.#} % more operations") : "");
    }
}

/// <summary>Chooses the cheapest way to keep within a budget.</summary>
/// <remarks>
/// Cost is what backward computes again, and for each byte that goes to the host and back as many operations as a GPU makes meanwhile, as if nothing of
/// the copy were hidden. The bytes are those of tensors: what a process takes before the first (CUDA's context, libraries) comes on top.
/// </remarks>
public static class MemoryBudget
{
    private const string Key = "train.memory_budget";

    // 400 TFLOP/s beside a link of 20 GB/s, there and back.
    private const double OperationsPerByte = 2 * 400e12 / 20e9;

    /// <summary>What a run of some ranks does; the same on every rank.</summary>
    /// <param name="config">Checked.</param>
    /// <param name="ranks">At least 1.</param>
    /// <param name="ranksPerNode">Of each node; 1 where nothing is known of nodes.</param>
    /// <exception cref="ConfigException">Nothing that the configuration allows fits its budget.</exception>
    public static MemoryDecision Decide(RunConfig config, int ranks, int ranksPerNode = 1)
    {
        using var model = new PlannedModel(config, ranks, ranksPerNode);
        var (decision, fits) = Cheapest(model, Form(config));
        return fits ? decision : throw new ConfigException([new ConfigFault(ConfigOrigin.Default, Key, Refusal(decision), Remedy(config))]);
    }

    /// <summary>What is wrong with a budget before any rank starts, with the place that says it; null where it can be met or there is none.</summary>
    /// <param name="resolved">Checked.</param>
    /// <param name="ranks">At least 1.</param>
    /// <param name="ranksPerNode">Of each node.</param>
    public static ConfigFault? Fault(ResolvedConfig resolved, int ranks, int ranksPerNode)
    {
        if (resolved.Config.Train.MemoryBudget is null)
        {
            return null;
        }

        using var model = new PlannedModel(resolved.Config, ranks, ranksPerNode);
        var (decision, fits) = Cheapest(model, Form(resolved.Config));
        return fits ? null : resolved.Fault(Key, Refusal(decision), Remedy(resolved.Config));
    }

    /// <summary>The cheapest choice that fits, or where none does the one that needs least.</summary>
    internal static (MemoryDecision Decision, bool Fits) Cheapest(PlannedModel model, CollectiveForm collectives)
    {
        var candidates = Decisions(model, Candidates(model.Config), collectives);
        return candidates.Where(decision => decision.Budget is not { } budget || decision.Plan.Peak <= budget)
            .OrderBy(decision => Cost(model, decision.Choice)).ThenBy(decision => decision.Plan.Peak)
            .FirstOrDefault() is { } cheapest ? (cheapest, true) : (candidates.MinBy(decision => decision.Plan.Peak)!, false);
    }

    /// <summary>What choices come to, whether they fit or not.</summary>
    internal static List<MemoryDecision> Decisions(PlannedModel model, IEnumerable<MemoryChoice> choices, CollectiveForm collectives)
    {
        var plan = MemoryPlan.Of(model, collectives: collectives);
        var budget = model.Config.Train.MemoryBudget is { } text ? ByteSize.Parse(text) : null;
        var step = model.Count.OperationsPerToken(model.Config.Model) * model.Tokens;
        return [.. choices.Select(choice => new MemoryDecision(
            choice, plan.With(model, choice, collectives), budget, new KeptActivations(model, choice).Operations() / step))];
    }

    private static CollectiveForm Form(RunConfig config) => config.Parallel.Device == DeviceName.Cuda ? CollectiveForm.Ring : CollectiveForm.Direct;

    // Every choice that a configuration leaves, the one that keeps everything first.
    private static IEnumerable<MemoryChoice> Candidates(RunConfig config)
    {
        var stated = MemoryChoice.Of(config);
        var (train, layers) = (config.Train, config.Model.Layers);
        bool[] offloads = train is { MemoryBudget: not null, Offload: Offload.Auto, GraphCapture: false } && config.Parallel.Device == DeviceName.Cuda ? [false, true] : [stated.Offloads];
        MemoryChoice[] forms = train is { MemoryBudget: not null, Recompute: Recompute.Auto }
            ? [stated, .. Enumerable.Range(1, layers).SelectMany(count => (MemoryChoice[])[new(Recompute.Experts, count, false), new(Recompute.Block, count, false)])]
            : [stated];
        return offloads.SelectMany(_ => forms, (isOffloaded, form) => form with { Offloads = isOffloaded });
    }

    private static double Cost(PlannedModel model, MemoryChoice choice)
    {
        var kept = new KeptActivations(model, choice);
        return kept.Operations() + (OperationsPerByte * kept.Moved());
    }

    private static string Refusal(MemoryDecision least)
    {
        var parts = least.Plan.Persistent.Concat(least.Plan.Activations.GroupBy(_ => "kept for backward", item => item.Bytes, (kind, bytes) => new MemoryItem(kind, bytes.Sum())))
            .Append(new("workspace", least.Plan.Workspace)).Append(new("reduction of gradients", least.Plan.Communication)).Append(new("update", least.Plan.Update))
            .Where(item => item.Bytes > 0).Select(item => $"{item.Kind} {ByteSize.Write(item.Bytes)}");
        return $"train.memory_budget is {ByteSize.Write(least.Budget!.Value)}, but the tensors of the fullest rank are planned to take {ByteSize.Write(least.Plan.Peak)} "
            + $"at least, with {least.Choice} ({string.Join(", ", parts)})";
    }

    private static string Remedy(RunConfig config)
    {
        List<string> ways = [];
        if (config.Train.MicroBatch > 1)
        {
            ways.Add($"a smaller train.micro_batch than {config.Train.MicroBatch}, with more train.accumulation");
        }

        ways.Add("more ranks");
        if (config.Optimizer.StateType == StoredType.Float32 && config.Train.Precision == Precision.BFloat16)
        {
            ways.Add("optimizer.state_type bfloat16");
        }

        if (config.Train.Recompute is Recompute.None or Recompute.Experts)
        {
            ways.Add("train.recompute auto");
        }

        return string.Join(", or ", ways) + "; launch plan shows the bytes of each choice";
    }
}

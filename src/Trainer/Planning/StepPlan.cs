using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>One step of a configuration on a mesh of devices, predicted: memory, work, communication, speed.</summary>
/// <remarks>
/// The step is the sum of its parts, since the trainer overlaps none of them but the counts of a dispatch: work, then collectives, then the wait
/// for the last rank. docs/plan.md has the formulas.
/// </remarks>
public sealed record StepPlan
{
    /// <summary>What was planned.</summary>
    public required RunConfig Config { get; init; }

    /// <summary>Of each rank.</summary>
    public required DeviceRecord Device { get; init; }

    /// <summary>Nodes.</summary>
    public required int Nodes { get; init; }

    /// <summary>Ranks of a node.</summary>
    public required int PerNode { get; init; }

    /// <summary>Ranks that share a copy of the experts.</summary>
    public required int ExpertParallel { get; init; }

    /// <summary>Size of the model.</summary>
    public required ParameterCount Parameters { get; init; }

    /// <summary>Of the fullest rank.</summary>
    public required MemoryPlan Memory { get; init; }

    /// <summary>Of a rank, by kind, the longest first.</summary>
    public required IReadOnlyList<WorkItem> Work { get; init; }

    /// <summary>By purpose.</summary>
    public required IReadOnlyList<CollectiveItem> Collectives { get; init; }

    /// <summary>Tokens of a step over all ranks.</summary>
    public required long TokensPerStep { get; init; }

    /// <summary>Ranks of the job.</summary>
    public int Ranks => Nodes * PerNode;

    /// <summary>Seconds of work in a step, what ranks take from each other on shared cores included.</summary>
    public double WorkTime => Work.Sum(item => item.Seconds) * Device.Sharing(Ranks);

    /// <summary>Seconds of communication in a step.</summary>
    public double CommunicationTime => Collectives.Sum(item => item.Seconds) * Device.Sharing(Ranks);

    /// <summary>Seconds in which the mean rank waits for the last.</summary>
    public double WaitingTime => Ranks == 1 ? 0 : WorkTime * (Device.Straggling - 1);

    /// <summary>Seconds of a step.</summary>
    public double StepTime => WorkTime + CommunicationTime + WaitingTime;

    /// <summary>Over all ranks.</summary>
    public double TokensPerSecond => TokensPerStep / StepTime;

    /// <summary>Model operations a second and rank, as the convention counts them.</summary>
    public double OperationsPerSecond => TokensPerSecond * Parameters.OperationsPerToken(Config.Model) / Ranks;

    /// <summary>Operations as a share of what the device can do at most; ranks on shared cores have their share of it.</summary>
    public double Utilisation => OperationsPerSecond * Device.Sharing(Ranks) / PeakRate;

    /// <summary>Whether <c>train.memory_budget</c> is kept, where there is one, with the least that is computed again for it.</summary>
    public bool IsWithinBudget { get; init; } = true;

    /// <summary>Whether the fullest rank has room; ranks of one machine share its memory.</summary>
    public bool Fits => NeededMemory <= Device.Memory && IsWithinBudget;

    /// <summary>Bytes to be held against <see cref="DeviceRecord.Memory"/>.</summary>
    public double NeededMemory => (double)Memory.Peak * (Device.SharedCores is null ? 1 : Ranks);

    /// <summary>What takes longest.</summary>
    public (string What, double Seconds) Bottleneck => Work.Select(item => (item.Kind, item.Seconds * Device.Sharing(Ranks)))
        .Concat(Collectives.Select(item => ($"{item.Purpose} ({(item.Between > 0 ? "between nodes" : "inside the node")})", item.Seconds * Device.Sharing(Ranks))))
        .Append(("waiting for the last rank", WaitingTime))
        .MaxBy(item => item.Item2);

    private double PeakRate => Device.Peak.TryGetValue(ConfigChoices.Spelling(Config.Train.Precision), out var rate) ? rate : Device.Peak["float32"];

    /// <summary>Plans a step.</summary>
    /// <param name="config">Checked by itself.</param>
    /// <param name="device">Of each rank.</param>
    /// <param name="nodes">At least 1.</param>
    /// <param name="perNode">At least 1.</param>
    /// <param name="load">Rows of the busiest rank's experts over the mean, at least 1.</param>
    /// <exception cref="ConfigException">The ranks or the experts don't divide by <c>parallel.expert_parallel</c>.</exception>
    public static StepPlan Of(RunConfig config, DeviceRecord device, int nodes, int perNode, double load = 1)
    {
        using var model = new PlannedModel(config, nodes * perNode, perNode);
        return Of(model, device, nodes, perNode, load);
    }

    internal static StepPlan Of(PlannedModel model, DeviceRecord device, int nodes, int perNode, double load)
    {
        var (decision, fits) = MemoryBudget.Cheapest(model, device.Collectives);
        return OfChoice(model.With(decision.Choice), device, nodes, perNode, load) with { IsWithinBudget = fits };
    }

    /// <summary>This step as it is, with nothing computed again, with each thing in all layers, and on a GPU with what is kept then offloaded.</summary>
    public IReadOnlyList<(MemoryChoice Choice, StepPlan Plan)> Choices(double load)
    {
        using var model = new PlannedModel(Config with { Parallel = Config.Parallel with { ExpertParallel = ExpertParallel } }, Ranks, PerNode);
        var layers = Config.Model.Layers;
        MemoryChoice[] forms = [new(Recompute.None, 0, false), new(Recompute.Experts, layers, false), new(Recompute.Block, layers, false)];
        MemoryChoice[] all = Device.SharedCores is null ? [.. forms, new(Recompute.Block, layers, true)] : forms;
        return [.. all.Prepend(MemoryChoice.Of(Config)).Distinct().OrderBy(choice => choice.Offloads).ThenBy(choice => choice.Recompute).ThenBy(choice => choice.Layers)
            .Select(choice => (choice, OfChoice(model.With(choice), Device, Nodes, PerNode, load)))];
    }

    private static StepPlan OfChoice(PlannedModel model, DeviceRecord device, int nodes, int perNode, double load) =>
        new()
        {
            Config = model.Config,
            Device = device,
            Nodes = nodes,
            PerNode = perNode,
            ExpertParallel = model.Mesh.Expert.Size,
            Parameters = model.Count,
            Memory = MemoryPlan.Of(model, (long)device.ProcessMemory, rank: null, device.Collectives),
            Work = WorkPlan.Of(model, device, load),
            Collectives = CollectivePlan.Of(model, device, perNode, load),
            TokensPerStep = model.TokensPerStep,
        };
}

using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>Meshes and micro-batches that a step may be made with.</summary>
public static class MeshSearch
{
    private const int MostMicroBatches = 5;

    /// <summary>Every way to divide the experts among some ranks, with the micro-batches that make up the same batch of a rank.</summary>
    /// <param name="config">What to vary; its micro-batch times accumulation is a rank's batch.</param>
    /// <param name="device">Of each rank.</param>
    /// <param name="nodes">At least 1.</param>
    /// <param name="perNode">At least 1.</param>
    /// <param name="load">As for <see cref="StepPlan.Of(RunConfig, DeviceRecord, int, int, double)"/>.</param>
    /// <returns>Of the micro-batches the nearest to the configuration's.</returns>
    public static IEnumerable<StepPlan> Variants(RunConfig config, DeviceRecord device, int nodes, int perNode, double load = 1)
    {
        var (ranks, experts) = (nodes * perNode, config.Model.Moe.Experts);
        var batch = config.Train.MicroBatch * config.Train.Accumulation;
        var isOneMicroBatch = config.Optimizer.ExpertsInBackward; // and each expert is on one rank alone
        int[] micro = isOneMicroBatch ? [batch] : [.. Divisors(batch).OrderBy(size => Math.Abs(Math.Log2((double)size / config.Train.MicroBatch))).Take(MostMicroBatches)];
        foreach (var parallel in Divisors(experts).Where(size => (isOneMicroBatch ? size == ranks : ranks % size == 0) && (size == 1 || config.Parallel.Dispatcher != DispatcherName.Local)))
        {
            using var model = new PlannedModel(config with { Parallel = config.Parallel with { ExpertParallel = parallel } }, ranks, perNode);
            foreach (var size in micro)
            {
                yield return StepPlan.Of(model.WithBatch(size, batch / size), device, nodes, perNode, load);
            }
        }
    }

    /// <summary>Those that fit, by predicted speed.</summary>
    /// <param name="plan">What was asked for; it is not among them.</param>
    /// <param name="most">Longest list.</param>
    /// <param name="load">As for <see cref="StepPlan.Of(RunConfig, DeviceRecord, int, int, double)"/>.</param>
    public static IReadOnlyList<StepPlan> Fitting(StepPlan plan, int most, double load = 1) =>
    [
        .. Variants(plan.Config, plan.Device, plan.Nodes, plan.PerNode, load)
            .Where(other => other.Fits && (other.ExpertParallel, other.Config.Train.MicroBatch) != (plan.ExpertParallel, plan.Config.Train.MicroBatch))
            .OrderByDescending(other => other.TokensPerSecond)
            .Take(most),
    ];

    private static IEnumerable<int> Divisors(int number)
    {
        var small = Enumerable.Range(1, (int)Math.Sqrt(number)).Where(size => number % size == 0).ToList();
        return small.Concat(small.AsEnumerable().Reverse().Select(size => number / size).Where(size => (long)size * size != number));
    }
}

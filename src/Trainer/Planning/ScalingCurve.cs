using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>One size of a job, with the best mesh for it.</summary>
/// <param name="Ranks">Devices.</param>
/// <param name="Plan">The fastest that fits; null where none does, or where a rank would have no whole sequence.</param>
public readonly record struct ScalingPoint(int Ranks, StepPlan? Plan);

/// <summary>How a configuration would run on ever more devices.</summary>
/// <param name="Weak">The batch of a rank stays, that of the job grows.</param>
/// <param name="Strong">The batch of the job stays.</param>
/// <param name="GlobalBatch">Sequences of a step of <paramref name="Strong"/>.</param>
public sealed record ScalingCurve(IReadOnlyList<ScalingPoint> Weak, IReadOnlyList<ScalingPoint> Strong, long GlobalBatch)
{
    private const int MostMicroBatch = 65536;

    /// <summary>Plans every size.</summary>
    /// <param name="config">Its micro-batch times accumulation is a rank's batch in <see cref="Weak"/>.</param>
    /// <param name="device">Of each rank.</param>
    /// <param name="perNode">Ranks of a full node; smaller jobs have one node.</param>
    /// <param name="first">Fewest ranks.</param>
    /// <param name="last">Most ranks.</param>
    /// <param name="globalBatch">Sequences of a step of <see cref="Strong"/>; null for one a rank of the largest job.</param>
    /// <param name="load">Rows of the busiest rank's experts over the mean.</param>
    public static ScalingCurve Of(RunConfig config, DeviceRecord device, int perNode, int first, int last, long? globalBatch = null, double load = 1)
    {
        int[] sizes = [.. Doublings(first, last)];
        var batch = globalBatch ?? last;
        return new ScalingCurve(
            [.. sizes.Select(ranks => new ScalingPoint(ranks, Best(config, device, perNode, ranks, load)))],
            [.. sizes.Select(ranks => new ScalingPoint(ranks, batch % ranks == 0 ? Best(Share(config, batch / ranks), device, perNode, ranks, load) : null))],
            batch);
    }

    private static IEnumerable<int> Doublings(int first, int last)
    {
        for (long ranks = first; ranks < last; ranks *= 2)
        {
            yield return (int)ranks;
        }

        yield return last;
    }

    private static RunConfig Share(RunConfig config, long sequences)
    {
        var micro = config.Optimizer.ExpertsInBackward ? sequences : Math.Min(sequences, Math.Min(MostMicroBatch, config.Train.MicroBatch));
        while (sequences % micro != 0)
        {
            micro--;
        }

        return config with { Train = config.Train with { MicroBatch = (int)micro, Accumulation = (int)(sequences / micro) } };
    }

    private static StepPlan? Best(RunConfig config, DeviceRecord device, int perNode, int ranks, double load)
    {
        var local = Math.Min(perNode, ranks);
        return ranks % local != 0
            ? null
            : MeshSearch.Variants(config, device, ranks / local, local, load).Where(plan => plan.Fits).MaxBy(plan => plan.TokensPerSecond);
    }
}

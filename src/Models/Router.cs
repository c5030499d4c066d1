using Moe.Torch;

namespace Moe.Models;

/// <summary>Chooses k experts for every token from scores of its hidden state, and says with what weight their outputs count.</summary>
/// <remarks>
/// Shapes: T tokens in G segments of consecutive tokens, width D, E experts. Logits and scores are float32, or float64 in float64 models.
/// The selection adds a bias to the scores, the weights don't: balancing without a loss, Wang et al. 2024, https://arxiv.org/abs/2408.15664.
/// Of equal scores the lower expert id wins, so that a token's choice depends on its scores alone.
/// </remarks>
public static class Router
{
    /// <summary>Routes one micro-batch.</summary>
    /// <param name="logits">[T, E].</param>
    /// <param name="bias">[E] float32, added to the scores for the selection.</param>
    /// <param name="segments">G; divides T.</param>
    /// <param name="options">How scores become choices and weights.</param>
    /// <param name="capacitySegments">Segments, likewise dividing T, in which an expert's capacity counts; null for the same.</param>
    public static Routing Route(Tensor logits, Tensor bias, long segments, MoeOptions options, long? capacitySegments = null)
    {
        var choice = RouterChoice.Of(logits, bias, segments, options);
        var (kept, weights) = (choice.Ids, choice.Weights);
        var dropped = logits.NewZeros([], DType.Int64);
        Tensor? full = null;
        if (options.CapacityFactor is { } factor && kept.Size(0) > 0)
        {
            var counts = capacitySegments is { } groups ? Count(choice.Ids, groups, options.Experts) : choice.Counts;
            full = Capacity.Overflow(choice.Ids, choice.Chosen, counts, factor, options.DropPolicy);
            kept = kept.MaskedFill(full, options.Experts);
            weights = weights.MaskedFill(full, 0);
            dropped = full.Sum();
        }

        var tokens = segments == 0 ? 0 : logits.Size(0) / segments;
        var statistics = new RouterStatistics(choice.Counts, choice.ScoreSums, choice.SquaredLogSumExp, tokens, options.TopK, dropped);
        return new Routing(kept, weights, statistics)
        {
            Decision = new RoutingDecision(choice.Ids, choice.Weights, choice.ScoreSums, choice.SquaredLogSumExp, choice.Counts, kept, full, dropped, segments),
        };
    }

    /// <summary>The same routing as before, its weights and sums on the graph behind logits that were computed once more.</summary>
    /// <param name="logits">[T, E]; the same numbers as before.</param>
    /// <param name="bias">As before.</param>
    /// <param name="options">As before.</param>
    /// <param name="decision">What was decided; its tensors still live.</param>
    internal static Routing Again(Tensor logits, Tensor bias, MoeOptions options, RoutingDecision decision)
    {
        var choice = RouterChoice.Of(logits, bias, decision.Segments, options, decision);
        var weights = decision.Full is { } full ? choice.Weights.MaskedFill(full, 0) : choice.Weights;
        var tokens = decision.Segments == 0 ? 0 : logits.Size(0) / decision.Segments;
        var statistics = new RouterStatistics(decision.Counts, choice.ScoreSums, choice.SquaredLogSumExp, tokens, options.TopK, decision.Dropped);
        return new Routing(decision.Kept, weights, statistics);
    }

    /// <summary>How many choices of each segment fell on each expert: [T, k] int64 -> [G, E] int64.</summary>
    internal static Tensor Count(Tensor ids, long segments, int experts)
    {
        var counts = ids.NewZeros([segments, experts]);
        if (ids.Size(0) > 0)
        {
            var perSegment = ids.View(segments, -1);
            counts.ScatterAdd_(1, perSegment, ids.NewEmpty(perSegment.Shape).Fill_(1));
        }

        return counts;
    }
}

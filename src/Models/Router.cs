using Moe.Torch;

namespace Moe.Models;

/// <summary>Chooses k experts for every token from scores of its hidden state, and says with what weight their outputs count.</summary>
/// <remarks>
/// Shapes: T tokens in G segments of consecutive tokens, width D, E experts. Logits and scores are float32, or float64 in float64 models.
/// The selection adds a bias to the scores, the weights don't: balancing without a loss, Wang et al. 2024, https://arxiv.org/abs/2408.15664.
/// Of equal scores the lower expert id wins, so that a token's choice depends on its scores alone.
/// </remarks>
internal static class Router
{
    // As in DeepSeek-V3: keeps a token whose sigmoid scores all underflow from dividing by 0.
    private const double Tiny = 1e-20;

    /// <summary>Routes one micro-batch.</summary>
    /// <param name="logits">[T, E].</param>
    /// <param name="bias">[E] float32, added to the scores for the selection.</param>
    /// <param name="segments">G; divides T.</param>
    /// <param name="options">How scores become choices and weights.</param>
    /// <param name="capacitySegments">Segments, likewise dividing T, in which an expert's capacity counts; null for the same.</param>
    internal static Routing Route(Tensor logits, Tensor bias, long segments, MoeOptions options, long? capacitySegments = null)
    {
        var scores = options.Score == RouterScore.Softmax ? logits.Softmax(-1) : logits.Sigmoid();
        var ids = Select(scores.Detach(), bias, options.TopK);
        var chosen = scores.Gather(1, ids);
        var weights = options.NormalizeWeights ? chosen / chosen.Sum(-1, keep: true).Add(Tiny) : chosen;
        if (options.RoutedScale != 1)
        {
            weights *= options.RoutedScale;
        }

        var counts = Count(ids, segments, options.Experts);
        var dropped = Tensor.Zeros([], DType.Int64);
        var kept = ids;
        if (options.CapacityFactor is { } factor && ids.Size(0) > 0)
        {
            var full = Capacity.Overflow(
                ids, chosen.Detach(), capacitySegments is { } groups ? Count(ids, groups, options.Experts) : counts, factor, options.DropPolicy);
            kept = ids.MaskedFill(full, options.Experts);
            weights = weights.MaskedFill(full, 0);
            dropped = full.Sum();
        }

        return new Routing(kept, weights, Describe(logits, scores, counts, dropped, options));
    }

    /// <summary>The k experts with the highest biased scores, the best first: [T, k] int64.</summary>
    internal static Tensor Select(Tensor scores, Tensor bias, int topK) =>
        (scores + bias.To(scores.DType)).ArgSort(-1, descending: true).Narrow(1, 0, topK).Contiguous();

    /// <summary>How many choices of each segment fell on each expert: [T, k] int64 -> [G, E] int64.</summary>
    internal static Tensor Count(Tensor ids, long segments, int experts)
    {
        var counts = Tensor.Zeros([segments, experts], DType.Int64);
        if (ids.Size(0) > 0)
        {
            var perSegment = ids.View(segments, -1);
            counts.ScatterAdd_(1, perSegment, Tensor.Ones(perSegment.Shape, DType.Int64));
        }

        return counts;
    }

    private static RouterStatistics Describe(Tensor logits, Tensor scores, Tensor counts, Tensor dropped, MoeOptions options)
    {
        var segments = counts.Size(0);
        var tokens = segments == 0 ? 0 : logits.Size(0) / segments;
        var shares = options.Score == RouterScore.Softmax ? scores : scores / scores.Sum(-1, keep: true).Add(Tiny);
        var sums = shares.View(segments, tokens, options.Experts).Sum(1);
        var squares = logits.LogSumExp(-1);
        return new RouterStatistics(counts, sums, (squares * squares).Sum(), tokens, options.TopK, dropped);
    }
}

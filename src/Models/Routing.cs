using Moe.Torch;

namespace Moe.Models;

/// <summary>Where the tokens of a micro-batch go, with what weight.</summary>
/// <param name="ExpertIds">[T, k] int64, the best first; E where a full expert dropped the pair.</param>
/// <param name="Weights">[T, k], of the scores' type, on the graph; 0 where dropped.</param>
/// <param name="Statistics">What balancing needs to know of the decision.</param>
public sealed record Routing(Tensor ExpertIds, Tensor Weights, RouterStatistics Statistics)
{
    /// <summary>What a second pass goes by; null in the second.</summary>
    internal RoutingDecision? Decision { get; init; }
}

/// <summary>All that a router decided about a micro-batch: a second pass over it decides nothing.</summary>
/// <param name="Ids">[T, k] int64, before any drop.</param>
/// <param name="Weights">[T, k], before any drop.</param>
/// <param name="ScoreSums">[G, E].</param>
/// <param name="SquaredLogSumExp">A scalar.</param>
/// <param name="Counts">[G, E] int64.</param>
/// <param name="Kept">[T, k] int64, with E where a full expert dropped the pair.</param>
/// <param name="Full">[T, k] bool: the pairs that were dropped; null without a limit.</param>
/// <param name="Dropped">A scalar int64.</param>
/// <param name="Segments">G.</param>
internal sealed record RoutingDecision(
    Tensor Ids, Tensor Weights, Tensor ScoreSums, Tensor SquaredLogSumExp, Tensor Counts, Tensor Kept, Tensor? Full, Tensor Dropped, long Segments)
{
    /// <summary>The same on handles that live as long as a graph needs them.</summary>
    public RoutingDecision Saved(Func<Tensor, Tensor> save) => this with
    {
        Ids = save(Ids),
        Weights = save(Weights),
        ScoreSums = save(ScoreSums),
        SquaredLogSumExp = save(SquaredLogSumExp),
        Counts = save(Counts),
        Kept = save(Kept),
        Full = Full is null ? null : save(Full),
        Dropped = save(Dropped),
    };
}

/// <summary>What the balancing losses, the loss-free bias and the metrics need to know of one layer's routing of one micro-batch.</summary>
/// <remarks>
/// Shapes: E experts, G segments: consecutive sequences whose balance is judged together (the micro-batch, or each sequence by itself).
/// Counts are of the router's choices before any drop, the selection bias included: the real load that balancing should even out.
/// </remarks>
/// <param name="Counts">[G, E] int64: tokens of the segment that chose the expert; each row sums to k * <paramref name="TokensPerSegment"/>.</param>
/// <param name="ScoreSums">
/// [G, E], on the graph: sum over the segment's tokens of the scores, which add up to 1 for a token (sigmoid scores are divided by their sum).
/// </param>
/// <param name="SquaredLogSumExp">A scalar, on the graph: sum over all tokens of logsumexp(logits)^2.</param>
/// <param name="TokensPerSegment">Tokens in each segment.</param>
/// <param name="TopK">k.</param>
/// <param name="Dropped">A scalar int64: token-expert pairs that found their expert full.</param>
public sealed record RouterStatistics(Tensor Counts, Tensor ScoreSums, Tensor SquaredLogSumExp, long TokensPerSegment, int TopK, Tensor Dropped);

using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>How logits become choices and weights.</summary>
/// <param name="Segments">G: segments of consecutive tokens whose counts and sums are taken apart.</param>
/// <param name="Slots">k: experts a token chooses.</param>
/// <param name="Sigmoid">Scores are sigmoids; else a softmax.</param>
/// <param name="Normalize">Whether the chosen scores are divided by their sum.</param>
/// <param name="Scale">Factor on the weights.</param>
public readonly record struct RouterRule(long Segments, int Slots, bool Sigmoid, bool Normalize, double Scale);

/// <summary>What <see cref="RouterRows.Choose"/> finds.</summary>
/// <param name="Ids">[T, k] int64, the best first; of equal scores the lower id.</param>
/// <param name="Weights">[T, k].</param>
/// <param name="Chosen">[T, k]: the scores of the chosen.</param>
/// <param name="Counts">[G, E] int64.</param>
/// <param name="ScoreSums">[G, E]: sums of the scores, each token's divided by their sum.</param>
/// <param name="SquaredLogSumExp">A scalar: the sum over all tokens.</param>
public readonly record struct RouterRowsResult(Tensor Ids, Tensor Weights, Tensor Chosen, Tensor Counts, Tensor ScoreSums, Tensor SquaredLogSumExp);

/// <summary>A router's choices, weights and statistics in one pass over its logits [T, E], float32 or float64, and the gradient in another.</summary>
public static class RouterRows
{
    /// <summary>Chooses the k experts with the highest biased scores.</summary>
    /// <param name="logits">[T, E], contiguous.</param>
    /// <param name="bias">[E] float32, added to the scores for the selection only.</param>
    /// <param name="rule">How; its segments divide T.</param>
    /// <exception cref="TorchException">A tensor or the rule is not as above.</exception>
    public static RouterRowsResult Choose(Tensor logits, Tensor bias, RouterRule rule)
    {
        var (tokens, experts) = (logits.Size(0), logits.Size(1));
        var result = new RouterRowsResult(
            logits.NewEmpty([tokens, rule.Slots], DType.Int64),
            logits.NewEmpty([tokens, rule.Slots]),
            logits.NewEmpty([tokens, rule.Slots]),
            logits.NewEmpty([rule.Segments, experts], DType.Int64),
            logits.NewEmpty([rule.Segments, experts]),
            logits.NewEmpty([]));
        Operator.CountCall();
        Abi.Check(Abi.RouterForward(
            logits.LiveHandle,
            bias.LiveHandle,
            rule.Segments,
            rule.Slots,
            rule.Sigmoid ? 1 : 0,
            rule.Normalize ? 1 : 0,
            rule.Scale,
            result.Ids.LiveHandle,
            result.Weights.LiveHandle,
            result.Chosen.LiveHandle,
            result.Counts.LiveHandle,
            result.ScoreSums.LiveHandle,
            result.SquaredLogSumExp.LiveHandle));
        return result;
    }

    /// <summary>The gradient of the logits [T, E].</summary>
    /// <param name="logits">[T, E].</param>
    /// <param name="ids">[T, k], as chosen.</param>
    /// <param name="rule">As it was chosen by.</param>
    /// <param name="weights">Gradient of the weights [T, k]; null for zeros.</param>
    /// <param name="scoreSums">Gradient of the sums of scores [G, E]; null for zeros.</param>
    /// <param name="squaredLogSumExp">Gradient of the sum of squares, a scalar; null for zero.</param>
    /// <exception cref="TorchException">A tensor is not as above.</exception>
    public static Tensor Backward(Tensor logits, Tensor ids, RouterRule rule, Tensor? weights, Tensor? scoreSums, Tensor? squaredLogSumExp)
    {
        var gradient = logits.NewEmpty(logits.Shape);
        Operator.CountCall();
        Abi.Check(Abi.RouterBackward(
            logits.LiveHandle,
            ids.LiveHandle,
            rule.Segments,
            rule.Slots,
            rule.Sigmoid ? 1 : 0,
            rule.Normalize ? 1 : 0,
            rule.Scale,
            weights?.LiveHandle ?? 0,
            scoreSums?.LiveHandle ?? 0,
            squaredLogSumExp?.LiveHandle ?? 0,
            gradient.LiveHandle));
        return gradient;
    }
}

using Moe.Torch;

namespace Moe.Models;

/// <summary>
/// Auxiliary losses of the routers, as sums over tokens and layers: divided by the number of tokens they are means, like the language
/// model's loss, and ranks or micro-batches simply add up.
/// </summary>
/// <remarks>
/// The balancing loss of one layer is E * sum over experts of f_i P_i, with f_i the fraction of choices that fell on expert i and P_i its mean score:
/// 1 where both are even (Fedus et al. 2021, https://arxiv.org/abs/2101.03961). f is a count and carries no gradient.
/// Shapes: M layers with experts, G segments.
/// </remarks>
public static class BalanceLoss
{
    /// <summary>f and P of each segment by itself: micro-batch or sequence balancing.</summary>
    /// <returns>A scalar: sum over layers and segments of T_g * E * sum_i f_gi P_gi.</returns>
    public static Tensor Local(IReadOnlyList<RouterStatistics> layers)
    {
        var total = Zero(layers);
        foreach (var layer in layers.Where(layer => layer.TokensPerSegment > 0))
        {
            // T * P is the sum of scores; f = n / (k T).
            var scale = (double)layer.Counts.Size(1) / (layer.TopK * layer.TokensPerSegment);
            total += (layer.Counts.To(layer.ScoreSums.DType) * layer.ScoreSums).Sum() * scale;
        }

        return total;
    }

    /// <summary>
    /// f of the global batch, P of these tokens: Qiu et al. 2025, https://arxiv.org/abs/2501.11873. The loss is linear in P, so the
    /// sum of this over all ranks and micro-batches is that of one big batch.
    /// </summary>
    /// <param name="layers">Statistics of M layers.</param>
    /// <param name="fractions">[M, E]: see <see cref="Fractions"/>.</param>
    /// <returns>A scalar: sum over layers of E * sum_i f_i * (score sum)_i.</returns>
    public static Tensor Global(IReadOnlyList<RouterStatistics> layers, Tensor fractions)
    {
        if (layers.Count == 0)
        {
            return Zero(layers);
        }

        // All layers at once: on a GPU each operator costs its launch.
        var sums = Shaping.Stack([.. layers.Select(layer => layer.ScoreSums)]); // [M, G, E]
        return (sums * fractions.To(sums.DType).Unsqueeze(1)).Sum() * sums.Size(-1);
    }

    /// <summary>The fraction of each layer's choices that fell on each expert, n_i / sum(n).</summary>
    /// <param name="counts">[M, E] int64, summed over every rank with different tokens; k times the tokens in each row.</param>
    /// <returns>[M, E] float64; 0 where there were no tokens.</returns>
    public static Tensor Fractions(Tensor counts)
    {
        var wide = counts.To(DType.Float64);
        return wide / wide.Sum(-1, keep: true).ClampMin(1);
    }

    /// <summary>Keeps the routers' logits small: Zoph et al. 2022, https://arxiv.org/abs/2202.08906.</summary>
    /// <returns>A scalar: sum over layers and tokens of logsumexp(logits)^2.</returns>
    public static Tensor RouterZ(IReadOnlyList<RouterStatistics> layers)
    {
        return layers.Count == 0 ? Zero(layers) : Shaping.Stack([.. layers.Select(layer => layer.SquaredLogSumExp)]).Sum();
    }

    private static Tensor Zero(IReadOnlyList<RouterStatistics> layers) =>
        layers.Count == 0 ? Tensor.Zeros([]) : layers[0].ScoreSums.NewZeros([]);
}

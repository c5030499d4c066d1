using Moe.Torch;

namespace Moe.Models;

/// <summary>
/// Balancing without a loss: a bias on each expert's score, for the selection only, steps against the expert's load. Wang et al. 2024,
/// https://arxiv.org/abs/2408.15664.
/// </summary>
/// <remarks>
/// The update is not centred: the biases' sum may drift, by at most E * rate a step, which changes no selection, for those depend on
/// differences only; in return every step has exactly the paper's size.
/// </remarks>
public static class SelectionBias
{
    /// <summary>bias + rate * sign(mean(n) - n), to be taken once an optimizer step.</summary>
    /// <param name="bias">[..., E] float32.</param>
    /// <param name="counts">[..., E] int64: choices of the whole global batch.</param>
    /// <param name="rate">Above 0; 0.001 in the paper.</param>
    /// <returns>[..., E] float32.</returns>
    public static Tensor Updated(Tensor bias, Tensor counts, double rate)
    {
        // In integers: E * n against sum(n) decides exactly, where a rounded mean could turn a sign.
        var excess = counts * Tensor.From([counts.Size(-1)]).To(counts.Device) - counts.Sum(-1, keep: true);
        return bias.Add(excess.Sign().To(bias.DType), -rate);
    }
}

using Moe.Torch.Kernels;

namespace Moe.Torch;

/// <summary>Takes the gradient of stacked matrices as backward makes it, which then goes nowhere else: no <see cref="Tensor.Gradient"/> is set.</summary>
/// <remarks>Called by the thread that runs backward, when nothing of it needs the matrices any more: they may be changed.</remarks>
public interface IGradientTaker
{
    /// <summary>An update that the gradient's own product may make; null where the gradient is wanted whole.</summary>
    public StackedUpdate? Update { get; }

    /// <summary>Takes a gradient.</summary>
    /// <param name="gradient">Of the matrices' shape, without gaps; whoever gives it frees it afterwards.</param>
    /// <param name="groups">The rows of each matrix that it was made of; several where it is a sum of parts.</param>
    public void Take(Tensor gradient, IReadOnlyList<RowGroups> groups);

    /// <summary>Is told that <see cref="Update"/> was made.</summary>
    /// <param name="squares">[E] float64: what the squares of each matrix's gradient add up to; the taker's from here on.</param>
    public void Updated(Tensor squares);
}

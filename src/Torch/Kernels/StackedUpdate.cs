namespace Moe.Torch.Kernels;

/// <summary>An update of stacked matrices that lacks only their gradients, for a product that makes it along with these (<see cref="GroupedProduct.Step"/>).</summary>
/// <remarks>Shapes: matrices [E, M, N].</remarks>
/// <param name="Rule">What it does to an element.</param>
/// <param name="Slots">Those of the rule but the gradient, in its order, each [E, M, N]; stepped where they stand.</param>
/// <param name="Coefficients">[E, coefficients of the rule].</param>
/// <param name="SkipsIdle">Whether a matrix whose group has no rows is left as it is; else its gradient counts as zeros.</param>
public sealed record StackedUpdate(UpdateRule Rule, Tensor[] Slots, double[,] Coefficients, bool SkipsIdle);

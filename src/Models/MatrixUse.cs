using Moe.Torch;

namespace Moe.Models;

/// <summary>Who uses what backward makes at a matrix, beside autograd.</summary>
/// <param name="Sums">Told of the rows that pass it; null where nobody asks.</param>
/// <param name="Taker">Takes its gradient in autograd's place; null where nobody does.</param>
public readonly record struct MatrixUse(RowSums? Sums, IGradientTaker? Taker = null)
{
    /// <summary>Those that a parameter names.</summary>
    internal static MatrixUse Of(Parameter? parameter) => new(parameter?.RowSums, parameter?.GradientTaker);
}

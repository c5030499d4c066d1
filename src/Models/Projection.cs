using Moe.Torch;

namespace Moe.Models;

/// <summary>A dense linear layer: the place where a weight's <see cref="RowSums"/> see its rows.</summary>
internal static class Projection
{
    /// <summary>x [R, I] times the transpose of a weight [O, I], in the type of <paramref name="x"/> -> [R, O].</summary>
    internal static Tensor Project(this Tensor x, Parameter weight)
    {
        var y = x.Linear(weight.Value.To(x.DType));
        return weight.RowSums is { } sums ? RowSumTap.Apply(x, y, sums) : y;
    }
}

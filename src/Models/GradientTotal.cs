using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>The gradient of stacked matrices as the sum of several parts, in the order in which they come; left to whoever takes it, or to autograd.</summary>
/// <remarks>
/// One part is the gradient. Two are added in their own type, which rounds the sum once, as a sum in float32 would be; more than two of bfloat16 are added in float32.
/// </remarks>
/// <param name="parts">How many there will be.</param>
/// <param name="taker">Takes the gradient, or steps the matrices along with its product; null for autograd.</param>
internal sealed class GradientTotal(int parts, IGradientTaker? taker = null)
{
    private readonly List<RowGroups> _groups = [];
    private Tensor? _sum;
    private DType _type;

    /// <summary>Adds the part that rows make.</summary>
    /// <param name="left">[R, M].</param>
    /// <param name="right">[R, N].</param>
    /// <param name="groups">The rows of each matrix.</param>
    internal void AddProduct(Tensor left, Tensor right, RowGroups groups)
    {
        if (parts == 1 && GroupedProduct.MayStep(left) && taker?.Update is { } update && GroupedProduct.Step(left, right, groups, update) is { } squares)
        {
            taker.Updated(squares);
            return;
        }

        Add(GroupedProduct.Matrices(left, right, groups), groups);
    }

    /// <summary>Adds a part, which is of no more use to the caller.</summary>
    /// <param name="part">[E, M, N].</param>
    /// <param name="groups">The rows of each matrix that it was made of.</param>
    internal void Add(Tensor part, RowGroups groups)
    {
        if (taker is not null)
        {
            _groups.Add(groups.Offsets is { } offsets ? new RowGroups(offsets.Share().Detached()) : groups);
        }

        if (_sum is not null)
        {
            _sum.Add_(part);
            part.Dispose();
            return;
        }

        _type = part.DType;
        _sum = (parts > 2 && _type == DType.BFloat16 ? part.To(DType.Float32) : part).Detached();
    }

    /// <summary>When all parts are there and nothing needs the matrices any more, once: gives their sum, of their type, to the taker.</summary>
    /// <returns>The sum; null where there was a taker.</returns>
    internal Tensor? Take()
    {
        if (_sum is null)
        {
            return null; // the matrices were stepped with their product
        }

        using var sum = _sum;
        var whole = sum.DType == _type ? sum.Share() : sum.To(_type);
        if (taker is null)
        {
            return whole;
        }

        taker.Take(whole, _groups);
        whole.Dispose();
        _groups.ForEach(groups => groups.Offsets?.Dispose());
        return null;
    }
}

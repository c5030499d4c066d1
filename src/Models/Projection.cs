using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>A dense linear layer: x W^T. Shapes: x [R, I], W [O, I], y [R, O], in one type.</summary>
/// <remarks>A weight's <see cref="RowSums"/> see its rows in backward: a forward without one adds nothing.</remarks>
public sealed class Projection : Function
{
    private readonly RowSums? _sums;
    private Tensor? _x;
    private Tensor? _weight;

    private Projection(RowSums? sums) => _sums = sums;

    /// <summary>y = x W^T.</summary>
    /// <param name="x">[R, I].</param>
    /// <param name="weight">[O, I].</param>
    /// <param name="sums">Told of the rows in backward.</param>
    public static Tensor Apply(Tensor x, Tensor weight, RowSums? sums = null) => new Projection(sums).Apply([x, weight])[0];

    /// <summary>The same outside the graph.</summary>
    /// <param name="x">[R, I].</param>
    /// <param name="weight">[O, I].</param>
    public static Tensor Product(Tensor x, Tensor weight)
    {
        using var scope = new TensorScope();
        return scope.Keep(GroupedProduct.Rows(x, weight.Unsqueeze(0).Transpose(), RowGroups.Whole(x.Size(0))));
    }

    /// <summary>The gradient of x, outside the graph.</summary>
    /// <param name="arriving">[R, O]: that of y.</param>
    /// <param name="weight">[O, I].</param>
    /// <returns>[R, I].</returns>
    public static Tensor RowGradients(Tensor arriving, Tensor weight)
    {
        using var scope = new TensorScope();
        return scope.Keep(GroupedProduct.Rows(arriving, weight.Unsqueeze(0), RowGroups.Whole(arriving.Size(0))));
    }

    /// <summary>The gradient of W, outside the graph.</summary>
    /// <param name="arriving">[R, O]: that of y.</param>
    /// <param name="x">[R, I].</param>
    /// <returns>[O, I].</returns>
    public static Tensor WeightGradient(Tensor arriving, Tensor x)
    {
        using var scope = new TensorScope();
        return scope.Keep(GroupedProduct.Matrices(arriving, x, RowGroups.Whole(x.Size(0))).Select(0, 0));
    }

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        (_x, _weight) = (Save(inputs[0]), Save(inputs[1]));
        return [Product(inputs[0], inputs[1])];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var arriving = outputGradients[0]!.Contiguous();
        _sums?.Add(_x!, arriving, [arriving.Size(0)]);
        return [NeedsGradient(0) ? RowGradients(arriving, _weight!) : null, NeedsGradient(1) ? WeightGradient(arriving, _x!) : null];
    }
}

/// <summary>Weights as layers.</summary>
internal static class Projections
{
    /// <summary>x [R, I] times the transpose of a weight [O, I], in the type of <paramref name="x"/> -> [R, O].</summary>
    internal static Tensor Project(this Tensor x, Parameter weight) => Projection.Apply(x, weight.Value.To(x.DType), weight.RowSums);
}

using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// The gradient of a parameter that no other rank holds, where backward has left it: no copy, no sum, and what it is to be multiplied with is
/// left to the optimizer. Saves four passes over the gradients' memory.
/// </summary>
internal sealed class DirectGradient : GradientStore
{
    private readonly Parameter _parameter;
    private readonly LogicalParameter[] _logical;

    /// <param name="parameter">Held by this rank alone.</param>
    /// <param name="group">Of this rank alone.</param>
    public DirectGradient(Parameter parameter, ProcessGroup group)
        : base([parameter], group)
    {
        using var scope = new TensorScope();
        _parameter = parameter;
        var shape = parameter.Value.Shape;
        var nothing = parameter.Value.NewZeros(Array.ConvertAll(shape, _ => 1L)).Expand(shape); // stands for the first gradient, and takes no memory
        _logical = [.. LogicalParameter.Of(parameter, nothing)];
    }

    public override IReadOnlyList<LogicalParameter> Logical => _logical;

    public override IReadOnlyList<LogicalParameter> Owned => _logical;

    public override void Zero() => _parameter.Value.Gradient = null;

    public override Work? Reduce(bool shard)
    {
        using var scope = new TensorScope();
        var gradient = _parameter.Value.Gradient;
        if (gradient is null || !_parameter.Value.RequiresGrad)
        {
            gradient = _parameter.Value.NewZeros(_parameter.Value.Shape);
        }
        else if (!gradient.IsContiguous)
        {
            gradient = gradient.Contiguous();
        }

        _parameter.Value.Gradient = gradient;
        foreach (var (logical, (_, view)) in _logical.Zip(_parameter.Logical(gradient)))
        {
            logical.MoveGradient(view.Share().Detached());
            logical.GradientScale = 1;
        }

        return null;
    }

    public override void Scale(double factor, bool shard)
    {
        foreach (var logical in _logical)
        {
            logical.GradientScale *= factor;
        }
    }

    public override Action StartSharing() => () => { };

    public override void Dispose()
    {
        foreach (var logical in _logical)
        {
            logical.Value.Dispose();
            logical.Gradient.Dispose();
        }
    }
}

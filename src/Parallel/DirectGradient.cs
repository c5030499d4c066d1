using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// The gradient of a parameter that no other rank holds, where backward has left it: no copy, no sum, and what it is to be multiplied with is
/// left to the optimizer. Saves four passes over the gradients' memory.
/// </summary>
internal class DirectGradient : GradientStore
{
    private readonly Parameter _parameter;
    private readonly LogicalParameter[] _logical;
    private readonly Tensor[] _nothing; // stand for the gradients while there are none, and take no memory
    private Tensor[] _views = [];

    /// <param name="plan">Of one parameter, held by this rank alone.</param>
    public DirectGradient(GradientBucketPlan plan)
        : base(plan)
    {
        using var scope = new TensorScope();
        _parameter = plan.Parameters[0];
        var shape = _parameter.Value.Shape;
        _logical = [.. LogicalParameter.Of(_parameter, _parameter.Value.NewZeros(Array.ConvertAll(shape, _ => 1L)).Expand(shape))];
        _nothing = Array.ConvertAll(_logical, logical => logical.Gradient);
    }

    public override long Bytes => _views.Sum(view => view.Count * view.DType.Size());

    public override IReadOnlyList<LogicalParameter> Logical => _logical;

    public override IReadOnlyList<LogicalParameter> Owned => _logical;

    // The last step's gradient is freed before forward needs the memory.
    public override void Zero()
    {
        _parameter.Value.Gradient = null;
        Hide();
    }

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
        Show(gradient);
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
        FreeViews();
        Array.ForEach(_nothing, nothing => nothing.Dispose());
        Array.ForEach(_logical, logical => logical.Value.Dispose());
    }

    /// <summary>Lets the parameters have their parts of a gradient, as it stands there.</summary>
    private protected void Show(Tensor gradient)
    {
        FreeViews();
        _views = [.. _parameter.Logical(gradient).Select(logical => logical.Value.Share().Detached())];
        Take(_views);
    }

    /// <summary>Leaves the parameters without a gradient.</summary>
    private protected void Hide()
    {
        Take(_nothing);
        FreeViews();
    }

    /// <summary>Sets what the parameters' gradients are still to be multiplied with.</summary>
    private protected void SetScale(double factor) => Array.ForEach(_logical, logical => logical.GradientScale = factor);

    private void Take(Tensor[] gradients)
    {
        for (var i = 0; i < _logical.Length; i++)
        {
            _logical[i].TakeGradient(gradients[i]);
        }
    }

    private void FreeViews()
    {
        Array.ForEach(_views, view => view.Dispose());
        _views = [];
    }
}

using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// Gradients that one group reduces, end to end in one piece of memory; the parameters' own gradients are views of it. What a rank owns
/// is contiguous, in the order of the ranks.
/// </summary>
internal sealed class GradientBucket : GradientStore
{
    private readonly Parameter[] _parameters;
    private readonly Tensor[] _views;
    private readonly bool[] _isOwn;

    /// <param name="plan">What it holds: each parameter's blocks belong to ascending ranks, from the last owner of the one before.</param>
    /// <param name="owners">Of the parameters.</param>
    public GradientBucket(GradientBucketPlan plan, ParameterOwners owners)
        : base(plan)
    {
        using var scope = new TensorScope();
        var (parameters, group) = (plan.Parameters, plan.Group);
        _parameters = [.. parameters];
        Flat = parameters[0].Value.NewZeros([plan.Count], plan.Type).Detached();
        _views = new Tensor[parameters.Count];
        Segments = [.. plan.Segments];
        var start = 0L;
        for (var i = 0; i < _views.Length; i++)
        {
            var value = parameters[i].Value;
            _views[i] = Flat.Narrow(0, start, value.Count).View(value.Shape).Detached();
            start += value.Count;
        }

        LogicalParameter[][] logical = [.. parameters.Zip(_views).Select(pair => LogicalParameter.Of(pair.First, pair.Second).ToArray())];
        Logical = [.. logical.SelectMany(parts => parts)];
        Owned = [.. parameters.Zip(logical).SelectMany(pair => pair.Second.Zip(owners.Owns(pair.First)).Where(place => place.Second).Select(place => place.First))];
        _isOwn = [.. parameters.Select(parameter => owners.Owns(parameter).All(owned => owned))];
        Own = Flat.Narrow(0, Segments.Take(group.Rank).Sum(), Segments[group.Rank]).Detached();
    }

    /// <summary>[sum of the parameters' elements].</summary>
    public Tensor Flat { get; }

    /// <summary>Elements that each rank of the group owns.</summary>
    public long[] Segments { get; }

    /// <summary>What of <see cref="Flat"/> this rank owns; may be empty.</summary>
    public Tensor Own { get; }

    public override long Bytes => Flat.Count * Flat.DType.Size();

    public override IReadOnlyList<LogicalParameter> Logical { get; }

    public override IReadOnlyList<LogicalParameter> Owned { get; }

    /// <summary>Sets the gradients to zero, and lets the next backward add to them in place.</summary>
    public override void Zero()
    {
        Flat.Zero_();
        for (var i = 0; i < _views.Length; i++)
        {
            _parameters[i].Value.Gradient = _views[i];
        }
    }

    public override Work? Reduce(bool shard)
    {
        Collect();
        if (Group.Size == 1)
        {
            return null;
        }

        return Group.Trace.Labelled(
            "gradients", layer: null, () => shard ? Group.ReduceScatterAsync(Own, Flat, Segments) : Group.AllReduceAsync(Flat));
    }

    public override void Scale(double factor, bool shard) => (shard ? Own : Flat).Multiply_(factor);

    public override Action StartSharing()
    {
        using var scope = new TensorScope();
        if (_parameters is [var only])
        {
            return Gather(only.Value.Detach().View(Flat.Count)).Wait;
        }

        CopyValues(toBucket: true);
        var work = Gather(Flat);
        return () =>
        {
            work.Wait();
            CopyValues(toBucket: false);
        };
    }

    public override void Dispose()
    {
        foreach (var logical in Logical)
        {
            logical.Value.Dispose();
            logical.Gradient.Dispose();
        }

        Array.ForEach(_views, view => view.Dispose());
        Own.Dispose();
        Flat.Dispose();
    }

    // Takes in gradients that stand elsewhere: those of a first backward, or ones that were set by hand. Missing and frozen ones are zeros.
    private void Collect()
    {
        using var scope = new TensorScope();
        for (var i = 0; i < _views.Length; i++)
        {
            var gradient = _parameters[i].Value.Gradient;
            if (gradient is null || !_parameters[i].Value.RequiresGrad)
            {
                _views[i].Zero_();
            }
            else if (gradient.DataPointer != _views[i].DataPointer)
            {
                _views[i].CopyFrom_(gradient);
            }
            else
            {
                continue;
            }

            _parameters[i].Value.Gradient = _views[i];
        }
    }

    // To the bucket what this rank has stepped, and back what the others have.
    private void CopyValues(bool toBucket)
    {
        for (var i = 0; i < _views.Length; i++)
        {
            if (toBucket && _isOwn[i])
            {
                _views[i].CopyFrom_(_parameters[i].Value);
            }
            else if (!toBucket && !_isOwn[i])
            {
                _parameters[i].Value.CopyFrom_(_views[i]);
            }
        }
    }

    private Work Gather(Tensor values)
    {
        var own = values.Narrow(0, Segments.Take(Group.Rank).Sum(), Segments[Group.Rank]);
        return Group.AllGatherAsync(values, own, Segments);
    }
}

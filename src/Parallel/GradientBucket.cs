using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// Gradients that one group reduces, end to end in one piece of memory; the parameters' own gradients are views of it. What a rank owns
/// is contiguous, in the order of the ranks.
/// </summary>
internal sealed class GradientBucket : IDisposable
{
    private readonly Parameter[] _parameters;
    private readonly Tensor[] _views;
    private readonly LogicalParameter[][] _logical;
    private readonly bool[] _isOwn;

    /// <param name="parameters">Of one group and one type of sums, by their owners: each one's blocks belong to ascending ranks, from the last owner of the one before.</param>
    /// <param name="type">Float32 or float64.</param>
    /// <param name="group">Adds up the gradients.</param>
    /// <param name="owners">Of the parameters.</param>
    public GradientBucket(IReadOnlyList<Parameter> parameters, DType type, ProcessGroup group, ParameterOwners owners)
    {
        using var scope = new TensorScope();
        _parameters = [.. parameters];
        Group = group;
        Flat = Tensor.Zeros([parameters.Sum(parameter => parameter.Value.Count)], type).Detached();
        _views = new Tensor[parameters.Count];
        Segments = new long[group.Size];
        var start = 0L;
        for (var i = 0; i < _views.Length; i++)
        {
            var value = parameters[i].Value;
            _views[i] = Flat.Narrow(0, start, value.Count).View(value.Shape).Detached();
            start += value.Count;
            var blocks = owners.Of(parameters[i]);
            foreach (var owner in blocks)
            {
                Segments[owner] += value.Count / blocks.Count;
            }
        }

        _logical = [.. parameters.Zip(_views).Select(pair => LogicalParameter.Of(pair.First, pair.Second).ToArray())];
        Owned = [.. parameters.Zip(_logical).SelectMany(pair => pair.Second.Zip(owners.Owns(pair.First)).Where(place => place.Second).Select(place => place.First))];
        _isOwn = [.. parameters.Select(parameter => owners.Owns(parameter).All(owned => owned))];
        Own = Flat.Narrow(0, Segments.Take(group.Rank).Sum(), Segments[group.Rank]).Detached();
    }

    public ProcessGroup Group { get; }

    /// <summary>[sum of the parameters' elements].</summary>
    public Tensor Flat { get; }

    /// <summary>Elements that each rank of <see cref="Group"/> owns.</summary>
    public long[] Segments { get; }

    /// <summary>What of <see cref="Flat"/> this rank owns; may be empty.</summary>
    public Tensor Own { get; }

    /// <summary>All that is stepped by these gradients.</summary>
    public IEnumerable<LogicalParameter> Logical => _logical.SelectMany(parts => parts);

    /// <summary>What of <see cref="Logical"/> this rank owns.</summary>
    public IReadOnlyList<LogicalParameter> Owned { get; }

    /// <summary>Whether none of the parameters takes a gradient in this step; the same on all ranks.</summary>
    public bool IsFrozen => Array.TrueForAll(_parameters, parameter => !parameter.Value.RequiresGrad);

    /// <summary>Sets the gradients to zero, and lets the next backward add to them in place.</summary>
    public void Zero()
    {
        Flat.Zero_();
        for (var i = 0; i < _views.Length; i++)
        {
            _parameters[i].Value.Gradient = _views[i];
        }
    }

    /// <summary>Takes in gradients that stand elsewhere: those of a first backward, or ones that were set by hand. Missing and frozen ones are zeros.</summary>
    public void Collect()
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

    /// <summary>Starts to send every rank's new weights to the others. The gradients are lost: their memory carries the weights.</summary>
    /// <returns>To be called when all buckets have started; waits, and puts the weights in their places.</returns>
    public Action StartSharing()
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

    public void Dispose()
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

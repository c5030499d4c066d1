using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Gradients that one group reduces, end to end in one piece of memory; the parameters' own gradients are views of it.</summary>
internal sealed class GradientBucket : IDisposable
{
    private readonly IReadOnlyList<Parameter> _parameters;
    private readonly Tensor[] _views;

    /// <param name="parameters">Of one group, and of one type of sums.</param>
    /// <param name="type">Float32 or float64.</param>
    /// <param name="group">Adds up the gradients.</param>
    /// <param name="countsNorm">Whether this rank counts them in the norm.</param>
    public GradientBucket(IReadOnlyList<Parameter> parameters, DType type, ProcessGroup group, bool countsNorm)
    {
        using var scope = new TensorScope();
        _parameters = parameters;
        Group = group;
        CountsNorm = countsNorm;
        Flat = Tensor.Zeros([parameters.Sum(parameter => parameter.Value.Count)], type).Detached();
        _views = new Tensor[parameters.Count];
        var start = 0L;
        for (var i = 0; i < _views.Length; i++)
        {
            var value = parameters[i].Value;
            _views[i] = Flat.Narrow(0, start, value.Count).View(value.Shape).Detached();
            start += value.Count;
        }
    }

    public ProcessGroup Group { get; }

    /// <summary>What is stepped by these gradients; their tensors are freed by whoever asked.</summary>
    public IEnumerable<LogicalParameter> Logical => _parameters.Zip(_views).SelectMany(pair => LogicalParameter.Of(pair.First, pair.Second));

    public bool CountsNorm { get; }

    /// <summary>[sum of the parameters' elements].</summary>
    public Tensor Flat { get; }

    /// <summary>Name of the first parameter whose gradient holds an infinity or NaN.</summary>
    public string? FirstNotFinite()
    {
        using var scope = new TensorScope();
        var index = Array.FindIndex(_views, view => view.IsFinite().All().Item() == 0);
        return index < 0 ? null : _parameters[index].Name;
    }

    /// <summary>Sets the gradients to zero, and lets the next backward add to them in place.</summary>
    public void Zero()
    {
        Flat.Zero_();
        for (var i = 0; i < _views.Length; i++)
        {
            _parameters[i].Value.Gradient = _views[i];
        }
    }

    /// <summary>Takes in gradients that stand elsewhere: those of a first backward, or ones that were set by hand. Missing ones are zeros.</summary>
    public void Collect()
    {
        using var scope = new TensorScope();
        for (var i = 0; i < _views.Length; i++)
        {
            var gradient = _parameters[i].Value.Gradient;
            if (gradient is null)
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

    public void Dispose()
    {
        Array.ForEach(_views, view => view.Dispose());
        Flat.Dispose();
    }
}

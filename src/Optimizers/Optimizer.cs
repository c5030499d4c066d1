using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>A tensor that an optimizer keeps for a parameter from step to step.</summary>
/// <param name="Name">Unique among the optimizer's tensors for one parameter, such as <c>mean</c>; part of the checkpoint's keys.</param>
/// <param name="Parameter">The parameter that it belongs to.</param>
/// <param name="Value">Of the parameter's shape, so that the parameter's record splits it into logical tensors as it splits the parameter.</param>
public readonly record struct OptimizerState(string Name, Parameter Parameter, Tensor Value);

/// <summary>
/// Changes parameters by their gradients, which are reduced and clipped before. What it does to a logical parameter depends on that
/// parameter alone, so that every mesh makes the same step.
/// </summary>
public abstract class Optimizer : IDisposable
{
    private readonly Dictionary<string, Tensor[]> _state = [];
    private readonly Tensor[] _stored;

    /// <param name="parameters">What it steps; each has a gradient, of its own type, whenever <see cref="Step"/> is called.</param>
    protected Optimizer(IReadOnlyList<Parameter> parameters)
    {
        Parameters = parameters;
        _stored = [.. parameters.Select(parameter => parameter.Value)];
        Values = _stored;
    }

    /// <summary>What it steps.</summary>
    public IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>Every tensor that a checkpoint must hold, and that loading writes through.</summary>
    public IEnumerable<OptimizerState> State =>
        from state in _state
        from place in Parameters.Index()
        select new OptimizerState(state.Key, place.Item, state.Value[place.Index]);

    /// <summary>Numbers beside the tensors that a checkpoint must hold, by name.</summary>
    public IReadOnlyDictionary<string, double> Scalars => new Dictionary<string, double> { ["steps"] = Steps };

    /// <summary>Updates made so far; a step that was left out does not count.</summary>
    protected long Steps { get; private set; }

    /// <summary>The parameters' values, in order: their tensors, or float32 copies of bfloat16 ones that are written back after the update.</summary>
    protected Tensor[] Values { get; private set; }

    /// <summary>Sets what <see cref="Scalars"/> returned when the checkpoint was written.</summary>
    /// <exception cref="ArgumentException">One is missing.</exception>
    public void LoadScalars(IReadOnlyDictionary<string, double> scalars) => Steps = scalars.TryGetValue("steps", out var steps)
        ? (long)steps
        : throw new ArgumentException("the optimizer's step count is missing", nameof(scalars));

    /// <summary>Makes one update.</summary>
    /// <param name="learningRate">Of this step, at least 0.</param>
    /// <exception cref="InvalidOperationException">A parameter has no gradient.</exception>
    public void Step(double learningRate)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        Tensor[] gradients = [.. Parameters.Select(parameter => parameter.Value.Gradient
            ?? throw new InvalidOperationException($"'{parameter.Name}' has no gradient; one that nothing depended on should be zeros"))];
        Steps++;
        Values = Array.ConvertAll(_stored, Widened);
        Update(Array.ConvertAll(gradients, Widened), learningRate);
        for (var i = 0; i < _stored.Length; i++)
        {
            if (!ReferenceEquals(Values[i], _stored[i]))
            {
                _stored[i].CopyFrom_(Values[i]);
            }
        }
    }

    /// <summary>Frees the state; the parameters stay.</summary>
    public void Dispose()
    {
        foreach (var tensor in _state.Values.SelectMany(tensors => tensors))
        {
            tensor.Dispose();
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>The update itself; recording is off, <see cref="Steps"/> already counts this one, and a scope is open for temporaries.</summary>
    /// <param name="gradients">One a parameter.</param>
    /// <param name="learningRate">Of this step.</param>
    protected abstract void Update(Tensor[] gradients, double learningRate);

    /// <summary>A tensor of zeros for each parameter, kept in <see cref="State"/>.</summary>
    protected Tensor[] NewState(string name)
    {
        // In float32 for a bfloat16 parameter: running means move by less than its 8 bits can hold.
        var tensors = Array.ConvertAll(
            _stored, value => Tensor.Zeros(value.Shape, value.DType == DType.Float64 ? DType.Float64 : DType.Float32).Detached());
        _state.Add(name, tensors);
        return tensors;
    }

    /// <summary>Multiplies by 1 - rate whatever decays: all but norms, whose scale means nothing to what follows them.</summary>
    /// <param name="rate">Learning rate times weight decay.</param>
    protected void Decay(double rate)
    {
        if (rate != 0)
        {
            Tensor[] decaying = [.. Values.Where((_, i) => Parameters[i].Kind != ParameterKind.Norm)];
            if (decaying.Length > 0)
            {
                ForEach.Multiply_(decaying, 1 - rate);
            }
        }
    }

    private static Tensor Widened(Tensor value) => value.DType == DType.BFloat16 ? value.To(DType.Float32) : value;
}

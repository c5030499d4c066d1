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

    /// <param name="parameters">What it steps; each has a gradient, of its own type, whenever <see cref="Step"/> is called.</param>
    protected Optimizer(IReadOnlyList<Parameter> parameters)
    {
        Parameters = parameters;
        Values = [.. parameters.Select(parameter => parameter.Value)];
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

    /// <summary>The parameters' tensors, in order.</summary>
    protected Tensor[] Values { get; }

    /// <summary>Sets what <see cref="Scalars"/> returned when the checkpoint was written.</summary>
    /// <exception cref="ArgumentException">One is missing.</exception>
    public void LoadScalars(IReadOnlyDictionary<string, double> scalars) => Steps = scalars.TryGetValue("steps", out var steps)
        ? (long)steps
        : throw new ArgumentException("the optimizer's step count is missing", nameof(scalars));

    /// <summary>Makes one update.</summary>
    /// <param name="learningRate">Of this step, at least 0.</param>
    public void Step(double learningRate)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        Steps++;
        Update(Array.ConvertAll(Values, value => value.Gradient!), learningRate);
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
        var tensors = Array.ConvertAll(Values, value => Tensor.Zeros(value.Shape, value.DType).Detached());
        _state.Add(name, tensors);
        return tensors;
    }

    /// <summary>Multiplies by 1 - rate whatever decays: all but norms, whose scale means nothing to what follows them.</summary>
    /// <param name="rate">Learning rate times weight decay.</param>
    protected void Decay(double rate)
    {
        if (rate != 0)
        {
            ForEach.Multiply_([.. Parameters.Where(parameter => parameter.Kind != ParameterKind.Norm).Select(parameter => parameter.Value)], 1 - rate);
        }
    }
}

using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Optimizers;

/// <summary>An optimizer that keeps the same tensors for each of its parameters, and steps them all at once as lists of tensors.</summary>
/// <remarks>A new one needs only <see cref="NewState"/> for what it keeps and <see cref="Update"/> for its rule.</remarks>
public abstract class MultiTensorOptimizer : Optimizer
{
    private readonly Dictionary<string, Tensor[]> _state = [];
    private readonly List<Tensor> _owned = [];
    private readonly IdlePolicy _idle;
    private readonly Tensor _steps;
    private readonly Dictionary<Tensor[], Tensor[]> _memory = []; // of each state: the pieces that its tensors are parts of
    private readonly Dictionary<(Tensor[] State, int First), Tensor> _stacked = [];
    private readonly Lazy<Dictionary<LogicalParameter, int>> _places;
    private readonly HashSet<int> _early = []; // stepped before the step
    private StepList? _prepared;

    /// <param name="parameters">What it steps.</param>
    /// <param name="idle">What happens to experts without tokens.</param>
    protected MultiTensorOptimizer(IReadOnlyList<LogicalParameter> parameters, IdlePolicy idle)
    {
        Parameters = parameters;
        _idle = idle;
        _places = new(() => parameters.Index().ToDictionary(place => place.Item, place => place.Index));
        using var scope = new TensorScope();
        _steps = Own(Tensor.Zeros([parameters.Count], DType.Int64));
        _state.Add("steps", [.. parameters.Select((_, i) => Own(_steps.Narrow(0, i, 1)))]);
    }

    /// <summary>What it steps.</summary>
    public IReadOnlyList<LogicalParameter> Parameters { get; }

    /// <inheritdoc/>
    public override IEnumerable<OptimizerState> State =>
        from state in _state
        from place in Parameters.Index()
        where !ReferenceEquals(state.Value[place.Index], place.Item.Value)
        select new OptimizerState(state.Key, place.Item.Key, place.Item, state.Value[place.Index]);

    /// <inheritdoc/>
    public override void Prepare(Func<LogicalParameter, bool>? isFrozen)
    {
        if (!Prepares)
        {
            return;
        }

        using var mode = Autograd.NoGrad();
        ForgetPrepared();
        int[] active = [.. Enumerable.Range(0, Parameters.Count).Where(i => !_early.Contains(i) && (isFrozen is null || !isFrozen(Parameters[i])))];
        if (active.Length > 0)
        {
            var list = new StepList(Parameters, active);
            list.Update = PrepareUpdate(list);
            _prepared = list;
        }
    }

    /// <inheritdoc/>
    public override void Step(OptimizerStep step)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        StepRest(Counted(Enumerable.Range(0, Parameters.Count).Where(i => !_early.Contains(i)), step), step);
        Counted(_early, step); // behind the rest, for which a device waits
        _early.Clear();
    }

    /// <inheritdoc/>
    public override StackedUpdate? BeginEarly(Parameter parameter, IReadOnlyList<LogicalParameter> logical, OptimizerStep step)
    {
        int[] places = [.. logical.Select(one => _places.Value[one])];
        _early.UnionWith(places);
        var isWhole = logical.Sum(one => one.Value.Count) == parameter.Value.Count; // other optimizers may have parts of it
        if (!isWhole || parameter.Value.Rank != 3 || places.Index().Any(place => place.Item != places[0] + place.Index))
        {
            return null;
        }

        var list = new StepList(Parameters, places);
        list.TakeSteps(_steps.Span<long>(), more: 1);
        return PrepareStacked(list, step) is (var rule, var slots, var table) && RowsOfExperts(table, (int)parameter.Value.Size(0)) is { } rows
            ? new StackedUpdate(rule, [parameter.Value, .. slots.Select(slot => Stacked(slot, places[0], parameter.Value.Shape))], rows, _idle == IdlePolicy.Skip)
            : null;
    }

    /// <inheritdoc/>
    public override void StepEarly(IReadOnlyList<LogicalParameter> parameters, OptimizerStep step)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        int[] active = [.. parameters.Where(parameter => !IsLeftOut(parameter, step)).Select(parameter => _places.Value[parameter])];
        if (active.Length > 0)
        {
            var list = new StepList(Parameters, active);
            list.TakeSteps(_steps.Span<long>(), more: 1);
            Update(list, step);
            list.WriteBack();
        }
    }

    /// <inheritdoc/>
    protected override void Free()
    {
        ForgetPrepared();
        _owned.ForEach(tensor => tensor.Dispose());
    }

    /// <summary>Whether the whole update is one that <see cref="PrepareUpdate"/> can make ready.</summary>
    protected virtual bool Prepares => false;

    /// <summary>The update as far as it is known before its coefficients. <see cref="StepList.Update"/> is it then, unless the step changes other parameters.</summary>
    /// <param name="list">What is likely to be stepped; its counts of steps are not known yet.</param>
    protected virtual PreparedUpdate PrepareUpdate(StepList list) => throw new NotSupportedException($"{GetType().Name} prepares no update");

    /// <summary>The update of parameters that stand in one tensor, as a product may make it along with their gradients, where the rule and its tensors are such.</summary>
    /// <param name="list">All that stands in it; its counts of steps include this one.</param>
    /// <param name="step">What is known of the step.</param>
    /// <returns>The rule, the states that are its slots behind value and gradient, and its coefficients; null where no product can.</returns>
    protected virtual (UpdateRule Rule, Tensor[][] Slots, double[,] Coefficients)? PrepareStacked(StepList list, OptimizerStep step) => null;

    /// <summary>The update itself; recording is off, the counts of steps already have this one, and a scope is open for temporaries.</summary>
    /// <param name="list">What to step; never empty.</param>
    /// <param name="step">What all optimizers are told.</param>
    protected abstract void Update(StepList list, OptimizerStep step);

    /// <summary>A tensor of zeros for each parameter, of its shape and on its device, kept in <see cref="State"/>.</summary>
    /// <param name="name">What it is.</param>
    /// <param name="narrow">Type of the state of bfloat16 weights: float32, since running means move by less than the 8 bits of a bfloat16 can hold, or bfloat16 at half the memory.</param>
    /// <returns>By the parameter's index; <see cref="StepList.Of"/> picks those of a step.</returns>
    protected Tensor[] NewState(string name, DType narrow = DType.Float32)
    {
        using var scope = new TensorScope();
        var tensors = new Tensor[Parameters.Count];
        var pieces = new Tensor[Parameters.Count];
        foreach (var alike in Parameters.Index().GroupBy(place => place.Item.Value.DType == DType.BFloat16 ? narrow : place.Item.Value.DType))
        {
            // One piece of memory.
            var flat = Own(alike.First().Item.Value.NewZeros([alike.Sum(place => place.Item.Value.Count)], alike.Key));
            var start = 0L;
            foreach (var (i, parameter) in alike)
            {
                tensors[i] = Own(flat.Narrow(0, start, parameter.Value.Count).View(parameter.Value.Shape));
                pieces[i] = flat;
                start += parameter.Value.Count;
            }
        }

        _state.Add(name, tensors);
        _memory.Add(tensors, pieces);
        return tensors;
    }

    /// <summary>Float32 weights for the bfloat16 ones, kept in <see cref="State"/>; a weight of another type stands for itself.</summary>
    /// <returns>By the parameter's index.</returns>
    protected Tensor[] NewMasters()
    {
        using var mode = Autograd.NoGrad();
        var masters = new Tensor[Parameters.Count];
        for (var i = 0; i < masters.Length; i++)
        {
            using var scope = new TensorScope();
            var value = Parameters[i].Value;
            masters[i] = value.DType == DType.BFloat16 ? Own(value.To(DType.Float32)) : value;
        }

        _state.Add("master", masters);
        return masters;
    }

    /// <summary>Takes a tensor out of its scope, to be freed with the optimizer.</summary>
    protected Tensor Own(Tensor tensor)
    {
        _owned.Add(tensor.Detached());
        return tensor;
    }

    /// <summary>Weight decay of a parameter: norms have none, since their scale means nothing to what follows them.</summary>
    protected static double DecayOf(LogicalParameter parameter, double weightDecay) => parameter.Kind == ParameterKind.Norm ? 0 : weightDecay;

    /// <summary>Share of a parameter's weights that its decay leaves before the step.</summary>
    protected static double Kept(DecayForm form, double decay, double learningRate) => form switch
    {
        DecayForm.Decoupled => 1 - (learningRate * decay),
        DecayForm.Fixed => 1 - decay,
        _ => 1,
    };

    /// <summary>Share of a parameter's weights that its decay adds to the gradient.</summary>
    protected static double OnGradient(DecayForm form, double decay) => form == DecayForm.Coupled ? decay : 0;

    // Counts the step for those of these parameters that are not left out of it, and tells which.
    private int[] Counted(IEnumerable<int> parameters, OptimizerStep step)
    {
        int[] active = [.. parameters.Where(i => !IsLeftOut(Parameters[i], step))];
        var steps = _steps.Span<long>();
        foreach (var i in active)
        {
            steps[i]++;
        }

        return active;
    }

    private void StepRest(int[] active, OptimizerStep step)
    {
        if (active.Length == 0)
        {
            ForgetPrepared();
            return;
        }

        var steps = _steps.Span<long>();
        var list = _prepared is { } prepared && prepared.Indices.SequenceEqual(active) ? prepared : new StepList(Parameters, active);
        list.TakeSteps(steps);
        Update(list, step);
        list.WriteBack();
        ForgetPrepared();
    }

    // The states of parameters that stand in one tensor, as one: they follow one another in memory as the parameters do.
    private Tensor Stacked(Tensor[] state, int first, long[] shape)
    {
        if (!_stacked.TryGetValue((state, first), out var stacked))
        {
            using var scope = new TensorScope();
            var piece = _memory[state][first];
            var start = (state[first].DataPointer - piece.DataPointer) / piece.DType.Size();
            stacked = Own(piece.Narrow(0, start, shape.Aggregate((product, size) => product * size)).View(shape));
            _stacked.Add((state, first), stacked);
        }

        return stacked;
    }

    // A row an expert, where the projections that are fused in its matrix have the same; else null.
    private static double[,]? RowsOfExperts(double[,] table, int experts)
    {
        var (parts, length) = (table.GetLength(0) / experts, table.GetLength(1));
        var rows = new double[experts, length];
        for (var i = 0; i < table.GetLength(0); i++)
        {
            for (var j = 0; j < length; j++)
            {
                if (i % parts > 0 && rows[i / parts, j] != table[i, j])
                {
                    return null;
                }

                rows[i / parts, j] = table[i, j];
            }
        }

        return rows;
    }

    private void ForgetPrepared()
    {
        _prepared?.Update?.Dispose();
        _prepared = null;
    }

    private bool IsLeftOut(LogicalParameter parameter, OptimizerStep step) =>
        (step.IsFrozen?.Invoke(parameter) ?? false) || (_idle == IdlePolicy.Skip && (step.IsIdle?.Invoke(parameter) ?? false));
}

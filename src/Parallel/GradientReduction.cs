using System.Text;
using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Adds up every parameter's gradient over the ranks that hold it, measures all gradients as one vector, and hands new weights round.</summary>
/// <remarks>
/// Nothing is ever averaged: losses are sums over tokens, gradients are sums over ranks, and one factor makes them means. Gradients that
/// several ranks add up stand in flat buckets, so that few and large collectives suffice, and backward adds to them in place. Sums are in float32 (float64 for
/// float64 parameters), and so are the gradients of a bfloat16 parameter. Parameters whose values require no gradient are frozen: buckets
/// of nothing else are left alone, in others they count as zeros; all ranks freeze the same.
/// </remarks>
public sealed class GradientReduction : IDisposable
{
    private readonly ProcessGroup _all;
    private readonly GradientStore[] _stores;
    private readonly bool _shard;
    private readonly Dictionary<string, int> _order;
    private readonly Dictionary<GradientStore, Work?> _started = [];
    private bool _startsEarly;

    /// <param name="parameters">In the same order on all ranks; experts of the same number and shapes.</param>
    /// <param name="mesh">The ranks.</param>
    /// <param name="options">Left out, every rank gets all sums.</param>
    public GradientReduction(IReadOnlyList<Parameter> parameters, DeviceMesh mesh, GradientReductionOptions? options = null)
    {
        options ??= new GradientReductionOptions();
        _all = new ParameterPlacement(mesh).NormGroup;
        _shard = options.Shard;
        Owners = new ParameterOwners(parameters, mesh, options.Cost);
        _order = parameters.Index().SelectMany(place => place.Item.Keys.Select(key => (key, place.Index))).ToDictionary();
        _stores = [.. Plan(parameters, mesh, Owners, options).Select(Store)];
        Logical = [.. _stores.SelectMany(store => _shard ? store.Owned : store.Logical)];
    }

    /// <summary>Who steps, counts and writes what.</summary>
    public ParameterOwners Owners { get; }

    /// <summary>
    /// The parameters that this rank's optimizer steps, with the places that <see cref="Reduce"/> leaves their gradients in: when sharded
    /// those that it owns, else all that it holds.
    /// </summary>
    public IReadOnlyList<LogicalParameter> Logical { get; }

    /// <summary>Bytes of all gradients as they now stand.</summary>
    public long Bytes => _stores.Sum(store => store.Bytes);

    /// <summary>Whether experts of this step were, or are to be, stepped within backward.</summary>
    public bool HasSteppedInBackward => Active.OfType<SteppedGradient>().Any(store => store.IsStepped);

    private IEnumerable<GradientStore> Active => _stores.Where(store => !store.IsFrozen);

    /// <summary>How the gradients of these parameters stand together, in the order in which they are reduced; nothing is allocated.</summary>
    /// <param name="parameters">As for the constructor.</param>
    /// <param name="mesh">The ranks, which need not run.</param>
    /// <param name="owners">Of the parameters on that mesh.</param>
    /// <param name="options">As for the constructor.</param>
    public static IEnumerable<GradientBucketPlan> Plan(
        IReadOnlyList<Parameter> parameters, DeviceMesh mesh, ParameterOwners owners, GradientReductionOptions options)
    {
        var placement = new ParameterPlacement(mesh);
        var isDirect = parameters.ToLookup(parameter => options.Direct && placement.ReduceGroup(parameter).Size == 1);
        return BucketPlan.Cut([.. isDirect[false]], placement, options)
            .Select(part => GradientBucketPlan.Of(part, placement, owners))
            .Concat(isDirect[true].Select(parameter =>
                GradientBucketPlan.Direct(parameter, placement, options.StepExpertsInBackward && parameter.ExpertIds is not null)));
    }

    /// <summary>Sets all gradients to zero: once a step, before its first backward.</summary>
    public void Zero()
    {
        using var mode = Autograd.NoGrad();
        _startsEarly = false;
        _started.Clear();
        foreach (var store in Active)
        {
            store.Zero();
        }
    }

    /// <summary>
    /// Lets the step's only backward step experts that no other rank holds as it comes to their gradients, which then stand in no memory. After <see cref="Zero"/>; with
    /// <see cref="GradientReductionOptions.StepExpertsInBackward"/>, else nothing is done.
    /// </summary>
    /// <param name="factor">What <see cref="Reduce"/> will be told.</param>
    /// <param name="stepper">Steps them.</param>
    public void StepInBackward(double factor, IBackwardStepper stepper)
    {
        using var mode = Autograd.NoGrad();
        foreach (var store in Active.OfType<SteppedGradient>())
        {
            store.Begin(factor, stepper);
        }
    }

    /// <summary>
    /// The step's last backward is about to begin: from here on <see cref="LayerLeft"/> starts the sums of what it has made whole, which run beside the rest of it.
    /// Left out, <see cref="Reduce"/> starts all of them.
    /// </summary>
    public void ExpectLastBackward() => _startsEarly = true;

    /// <summary>
    /// Tells that the gradients of a layer and of all that follow it are whole, as the head's are. All ranks are told the same in the same order.
    /// </summary>
    /// <param name="layer">Index of the layer; their number for final norm and head alone.</param>
    /// <exception cref="CommunicationException">A reduction failed.</exception>
    public void LayerLeft(int layer)
    {
        if (!_startsEarly)
        {
            return;
        }

        using var span = Spans.Open("reduction");
        using var mode = Autograd.NoGrad();
        foreach (var store in Active.Where(store => store.Group.Size > 1 && !_started.ContainsKey(store) && store.IsWholeBehind(layer)))
        {
            _started.Add(store, store.Reduce(_shard));
        }
    }

    /// <summary>
    /// Makes the gradient of each parameter in <see cref="Logical"/> the sum of all ranks' gradients times <paramref name="factor"/>; one that
    /// is missing counts as zeros. Gradients that another rank steps are of no more use.
    /// </summary>
    /// <param name="factor">Usually 1 / tokens of the global batch.</param>
    /// <exception cref="CommunicationException">A reduction failed.</exception>
    public void Reduce(double factor)
    {
        using var mode = Autograd.NoGrad();
        _startsEarly = false;
        foreach (var store in Active.Where(store => !_started.ContainsKey(store)))
        {
            _started.Add(store, store.Reduce(_shard));
        }

        foreach (var store in Active)
        {
            _started[store]?.Wait();
            store.Scale(factor, _shard);
        }

        _started.Clear();
    }

    /// <summary>Multiplies gradients with what was left to the optimizer (<see cref="LogicalParameter.GradientScale"/>): for one that does not look at it.</summary>
    public void SettleScales()
    {
        using var mode = Autograd.NoGrad();
        foreach (var logical in Logical.Where(logical => logical.GradientScale != 1))
        {
            logical.Gradient.Multiply_(logical.GradientScale);
            logical.GradientScale = 1;
        }
    }

    /// <summary>The norm over all ranks, each logical parameter counted once; the same bits on every rank. All ranks call it, after <see cref="Reduce"/>.</summary>
    /// <exception cref="CommunicationException">The sum over the ranks failed.</exception>
    public GradientNorm MeasureNorm()
    {
        using var scope = new TensorScope();
        using var mode = Autograd.NoGrad();
        var squares = SteppedSquares();
        foreach (var alike in OwnedGradients().GroupBy(logical => logical.Gradient.DType == DType.Float64))
        {
            var norms = MultiTensor.Norms([.. alike.Select(logical => logical.Gradient)]);
            squares += alike.Zip(norms).Sum(pair => Math.Pow(pair.First.GradientScale * pair.Second, 2));
        }

        var total = Tensor.From([squares], 1);
        _all.Trace.Labelled("gradient norm", layer: null, () => _all.AllReduceAsync(total)).Wait();
        return new GradientNorm(this, Math.Sqrt(total.Item()));
    }

    /// <summary>
    /// When sharded, gives all ranks the new weights of their owners; otherwise there is nothing to do. All ranks call it, after the
    /// optimizer's step. It takes the gradients' memory: they are of no more use.
    /// </summary>
    /// <exception cref="CommunicationException">A transfer failed.</exception>
    public void ShareValues()
    {
        if (!_shard)
        {
            return;
        }

        using var mode = Autograd.NoGrad();
        var sharing = Active.Where(store => store.Group.Size > 1)
            .Select(store => store.Group.Trace.Labelled("weights", layer: null, store.StartSharing))
            .ToList();
        sharing.ForEach(finish => finish());
    }

    /// <summary>Frees the buckets; gradients that are views of them stay valid until they are replaced.</summary>
    public void Dispose() => Array.ForEach(_stores, store => store.Dispose());

    internal void Scale(double factor)
    {
        using var mode = Autograd.NoGrad();
        foreach (var store in Active)
        {
            store.Scale(factor, _shard);
        }
    }

    /// <summary>Key of the first parameter, by the model's order, whose gradient holds an infinity or NaN; the same on all ranks, who all call this.</summary>
    internal string? FirstNotFinite()
    {
        using var scope = new TensorScope();
        var stepped = Active.OfType<SteppedGradient>().Select(store => store.FirstNotFinite()).OfType<LogicalParameter>();
        var own = OwnedGradients().Where(logical => logical.Gradient.IsFinite().All().Item() == 0).Concat(stepped).MinBy(Place);
        var mine = own is null ? "" : FormattableString.Invariant($"{Place(own).Index:D8} {Place(own).Expert:D8} {own.Key}");
        var first = _all.GatherBytes(Encoding.UTF8.GetBytes(mine)).Select(Encoding.UTF8.GetString).Where(text => text.Length > 0).Min(StringComparer.Ordinal);
        return first?.Split(' ', 3)[2];
    }

    // One transfer for all of them.
    private double SteppedSquares()
    {
        SteppedGradient[] stepped = [.. Active.OfType<SteppedGradient>().Where(store => store.Squares is not null)];
        if (stepped.Length == 0)
        {
            return 0;
        }

        var sums = Shaping.Concatenate(Array.ConvertAll(stepped, store => store.Squares!)).ToArray<double>();
        var (total, start) = (0.0, 0);
        foreach (var store in stepped)
        {
            var count = (int)store.Squares!.Count;
            total += store.SquareSum(sums.Skip(start).Take(count));
            start += count;
        }

        return total;
    }

    private (int Index, int Expert) Place(LogicalParameter logical) => (_order[logical.Key], logical.Expert ?? 0);

    // What still stands in memory.
    private IEnumerable<LogicalParameter> OwnedGradients() =>
        Active.Where(store => store is not SteppedGradient { Squares: not null }).SelectMany(store => store.Owned);

    private GradientStore Store(GradientBucketPlan plan) =>
        plan.IsSteppedInBackward ? new SteppedGradient(plan) : plan.IsDirect ? new DirectGradient(plan) : new GradientBucket(plan, Owners);
}

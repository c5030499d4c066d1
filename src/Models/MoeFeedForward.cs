using Moe.Distributed;
using Moe.Torch;

namespace Moe.Models;

/// <summary>The experts' part of a layer once more, along the way that its tokens went before.</summary>
/// <param name="x">[T, D], as before.</param>
/// <param name="routing">As decided before.</param>
/// <param name="form">Without a result, nothing comes back to the tokens.</param>
internal delegate Tensor ExpertsAgain(Tensor x, Routing routing, SwiGluForm form);

/// <summary>Routed experts, of which this rank holds a share, and the shared experts that every token passes.</summary>
internal sealed class MoeFeedForward : IDisposable
{
    private readonly string _name;
    private readonly MoeOptions _options;
    private readonly TokenDispatcher _dispatcher;
    private readonly Parameter _router;
    private readonly Parameter _gateUp;
    private readonly Parameter _down;
    private readonly FeedForward? _shared;

    internal MoeFeedForward(string name, TransformerOptions options, TokenDispatcher dispatcher, ParameterInitializer initializer)
    {
        (_name, _options, _dispatcher) = (name, options.Moe, dispatcher);
        var (experts, width) = (dispatcher.LocalExperts, (long)_options.ExpertWidth);
        int[] ids = [.. Enumerable.Range(dispatcher.FirstExpert, experts)];
        _router = initializer.Normal($"{name}.router", [_options.Experts, options.Width], options.InitStd, ParameterKind.Router);
        _gateUp = initializer.Normal(
            $"{name}.experts.gate_up", [experts, 2 * width, options.Width], options.InitStd, ParameterKind.Expert, ids, FeedForward.GateAndUp(width));
        _down = initializer.Normal($"{name}.experts.down", [experts, options.Width, width], options.ResidualStd, ParameterKind.Expert, ids);
        _shared = _options.SharedExperts == 0
            ? null
            : new FeedForward($"{name}.shared", _options.SharedExperts * _options.ExpertWidth, options, initializer);
        Bias = new LogicalTensor($"{name}.router.bias", _router.Value.NewZeros([_options.Experts], DType.Float32).Detached());
    }

    /// <summary>[E] float32, added to the scores for the selection only; no weight, hence never in the optimizer's hands.</summary>
    internal LogicalTensor Bias { get; }

    /// <inheritdoc/>
    public void Dispose() => Bias.Value.Dispose();

    /// <summary>Where the rows of x [T, D], of a batch, go.</summary>
    internal Routing Route(Tensor x, Batch batch)
    {
        using var span = Spans.Open("router");
        return Router.Route(RouterProduct.Of(x, _router.Value), Bias.Value, batch.Segments, _options, batch.CapacitySegments);
    }

    /// <summary>The routing of the same x once more, as it was decided.</summary>
    internal Routing RouteAgain(Tensor x, RoutingDecision decision)
    {
        using var span = Spans.Open("router");
        return Router.Again(RouterProduct.Of(x, _router.Value), Bias.Value, _options, decision);
    }

    /// <summary>[T, D] -> [T, D]: the chosen experts' outputs by weight, and the shared ones'.</summary>
    internal Tensor Forward(Tensor x, Routing routing) => Forward(x, routing, SwiGluForm.Whole).Result;

    /// <summary>The same, and what makes it once more.</summary>
    /// <param name="x">[T, D].</param>
    /// <param name="routing">Where the tokens go.</param>
    /// <param name="form">What is kept.</param>
    /// <param name="keep">Keeps a tensor until the second pass; null where there will be none.</param>
    internal (Tensor Result, ExpertsAgain? Again) Forward(Tensor x, Routing routing, SwiGluForm form, Func<Tensor, Tensor>? keep = null)
    {
        if (_dispatcher is not ExchangingDispatcher exchanging)
        {
            return ForwardStepwise(x, routing, form, keep);
        }

        var (result, course) = RoutedFeedForward.Apply(exchanging, x, routing, Matrices(x.DType), Uses, _name, form, keep: keep);
        return (result, (again, decided, wanted) => RoutedFeedForward.Apply(exchanging, again, decided, Matrices(again.DType), Uses, _name, wanted, course).Result);
    }

    /// <summary>The same by functions for dispatch, experts and combine, one after another, through any dispatcher: the slow reference where ranks exchange rows.</summary>
    internal Tensor ForwardStepwise(Tensor x, Routing routing) => ForwardStepwise(x, routing, SwiGluForm.Whole, null).Result;

    private (Tensor Result, ExpertsAgain? Again) ForwardStepwise(Tensor x, Routing routing, SwiGluForm form, Func<Tensor, Tensor>? keep)
    {
        var dispatched = Dispatch(x, routing);
        var course = keep is null ? null : dispatched.Course?.Invoke(keep);
        return (Join(x, dispatched, form), (again, decided, wanted) =>
            Join(again, course?.Invoke(again, decided.Weights, wanted.MakesResult) ?? Dispatch(again, decided), wanted));

        Dispatched Dispatch(Tensor tokens, Routing where) => _dispatcher.Dispatch(tokens, where.ExpertIds, where.Weights);
    }

    private Tensor Join(Tensor x, Dispatched dispatched, SwiGluForm form) =>
        _dispatcher.Combine(PassExperts(dispatched, x.DType, form), dispatched, _shared?.Forward(x, form));

    private Tensor PassExperts(Dispatched dispatched, DType type, SwiGluForm form)
    {
        using var span = Spans.Open("experts");
        return GroupedSwiGlu.Apply(
            dispatched.Rows,
            _gateUp.Value.To(type),
            _down.Value.To(type),
            dispatched.Groups,
            dispatched.RowWeights,
            MatrixUse.Of(_gateUp),
            MatrixUse.Of(_down),
            form with { Source = form.KeepsHidden ? null : dispatched.Source });
    }

    private RoutedUses Uses => new(MatrixUse.Of(_gateUp), MatrixUse.Of(_down), MatrixUse.Of(_shared?.GateUp), MatrixUse.Of(_shared?.Down));

    private Tensor[] Matrices(DType type)
    {
        using var span = Spans.Open("experts");
        Tensor[] routed = [_gateUp.Value.To(type), _down.Value.To(type)];
        return _shared is null ? routed : [.. routed, _shared.GateUp.Value.To(type).Unsqueeze(0), _shared.Down.Value.To(type).Unsqueeze(0)];
    }
}

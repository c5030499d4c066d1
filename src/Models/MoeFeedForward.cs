using Moe.Distributed;
using Moe.Torch;

namespace Moe.Models;

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
    internal Routing Route(Tensor x, Batch batch) =>
        Router.Route(RouterProduct.Of(x, _router.Value), Bias.Value, batch.Segments, _options, batch.CapacitySegments);

    /// <summary>[T, D] -> [T, D]: the chosen experts' outputs by weight, and the shared ones'.</summary>
    internal Tensor Forward(Tensor x, Routing routing) => _dispatcher is ExchangingDispatcher exchanging
        ? RoutedFeedForward.Apply(exchanging, x, routing, Matrices(x.DType), Sums, _name)
        : ForwardStepwise(x, routing);

    /// <summary>The same by functions for dispatch, experts and combine, one after another, through any dispatcher.</summary>
    internal Tensor ForwardStepwise(Tensor x, Routing routing)
    {
        var dispatched = _dispatcher.Dispatch(x, routing.ExpertIds, routing.Weights);
        var rows = GroupedSwiGlu.Apply(
            dispatched.Rows,
            _gateUp.Value.To(x.DType),
            _down.Value.To(x.DType),
            dispatched.Groups,
            dispatched.RowWeights,
            _gateUp.RowSums,
            _down.RowSums);
        return _dispatcher.Combine(rows, dispatched, _shared?.Forward(x));
    }

    private RoutedSums Sums => new(_gateUp.RowSums, _down.RowSums, _shared?.GateUp.RowSums, _shared?.Down.RowSums);

    private Tensor[] Matrices(DType type)
    {
        Tensor[] routed = [_gateUp.Value.To(type), _down.Value.To(type)];
        return _shared is null ? routed : [.. routed, _shared.GateUp.Value.To(type).Unsqueeze(0), _shared.Down.Value.To(type).Unsqueeze(0)];
    }
}

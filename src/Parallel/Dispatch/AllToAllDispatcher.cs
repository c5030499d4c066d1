using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Distributed;

/// <summary>
/// Dispatch over a group of ranks that divide the experts: each token goes straight to the ranks of its experts, once to each however many of
/// them it chose there, and one sum comes back from each.
/// </summary>
/// <remarks>
/// A dispatch is one small all-to-all of sizes, hidden behind the order of the rows, and one of rows with their choices beside them; combine and both
/// backwards are one of rows each, with the sizes that the dispatch left. Shapes: N rows leave for the ranks, n arrive, R rows of this
/// rank's experts are made of them.
/// </remarks>
/// <param name="group">The ranks that hold all experts between them, of one replica; stays the caller's.</param>
/// <param name="experts">E, a multiple of the group's size.</param>
public sealed class AllToAllDispatcher(ProcessGroup group, int experts) : TokenDispatcher(experts, group.Size, group.Rank)
{
    private protected override Dispatched Route(Tensor tokens, Tensor expertIds, Tensor weights)
    {
        var ids = expertIds.Contiguous();
        var sizes = ids.NewEmpty([2, group.Size, 2]);
        var plan = PackedRows.Plan(ids, Experts, group.Size, sizes.Select(0, 0));
        var exchange = new AllToAllExchange(group, sizes);
        var order = PairOrder.Of(plan.Destinations, group.Size);
        exchange.AwaitSizes();

        var outgoing = new Outgoing(ids, plan.Destinations, order.First(exchange.LeavingRows), LocalExperts, Experts);
        var function = new DispatchFunction(outgoing, exchange, WeightType(tokens));
        var outputs = function.Apply(tokens, weights);
        var local = function.Local;
        return new Dispatched(
            this,
            outputs[0],
            outputs[1],
            local.Groups,
            tokens.Size(0),
            (rows, added) =>
            {
                var combine = new CombineFunction(outgoing.Order, local, exchange);
                return (added is null ? combine.Apply(rows) : combine.Apply(rows, added))[0];
            });
    }

    /// <summary>Where this rank's tokens go.</summary>
    private sealed record Outgoing(Tensor Ids, Tensor Destinations, PairOrder Order, int LocalExperts, int Experts)
    {
        public Outgoing Saved(Func<Tensor, Tensor> save) => this with { Ids = save(Ids), Destinations = save(Destinations), Order = Order.Saved(save) };
    }

    /// <summary>tokens [T, D], weights [T, k] -> rows [R, D], weights [R].</summary>
    private sealed class DispatchFunction(Outgoing outgoing, AllToAllExchange exchange, DType weightType) : Function
    {
        private Outgoing _outgoing = outgoing;
        private PairOrder? _local;
        private DType _type;
        private DType _weightsType;
        private long[] _shape = [];

        /// <summary>The order of the rows among this rank's experts.</summary>
        public PairOrder Local { get; private set; } = null!;

        protected override Tensor[] Forward(Tensor[] inputs)
        {
            _outgoing = _outgoing.Saved(Save);
            var (tokens, weights) = (inputs[0], inputs[1]);
            var (ids, width) = (_outgoing.Ids, tokens.Size(1));
            using var leaving = PackedRows.Pack(
                tokens.Contiguous(), weights.To(weightType).Contiguous(), ids, _outgoing.Destinations, _outgoing.Order, _outgoing.LocalExperts);
            using var arrived = exchange.Send(leaving, "moe.dispatch");
            var choices = PackedRows.Choices(arrived, width, ids.Size(1));
            Local = PairOrder.Of(choices.Ids, _outgoing.LocalExperts).First(exchange.ArrivingChoices);
            _local = Local.Saved(Save);
            var rows = Local.Permute(arrived.Narrow(1, 0, width));
            (_shape, _type, _weightsType) = (rows.Shape, rows.DType, weights.DType);
            return [rows, Local.PermuteNumbers(choices.Weights)];
        }

        protected override Tensor?[] Backward(Tensor?[] outputGradients)
        {
            // The engine gives no gradient where nothing depended on the output; the other ranks still wait for this one's rows.
            var places = _local!.Places;
            var rows = (outputGradients[0] ?? places.NewZeros(_shape, _type)).Contiguous();
            var weights = (outputGradients[1] ?? places.NewZeros([_shape[0]], weightType)).Contiguous();
            var returned = exchange.Return(PackedRows.PackGradients(rows, weights, _local), "moe.dispatch.backward");
            var (order, width) = (_outgoing.Order, _shape[1]);
            return
            [
                NeedsGradient(0) ? order.Sum(returned.Narrow(1, 0, width)) : null,
                NeedsGradient(1)
                    ? PackedRows.WeightGradients(
                        returned, width, _outgoing.Ids, _outgoing.Destinations, order, _outgoing.LocalExperts, _outgoing.Experts).To(_weightsType)
                    : null,
            ];
        }
    }

    /// <summary>rows [R, D] and what is added [T, D] -> tokens [T, D].</summary>
    private sealed class CombineFunction(PairOrder order, PairOrder local, AllToAllExchange exchange) : Function
    {
        private PairOrder _order = order;
        private PairOrder _local = local;
        private bool _adds;
        private DType _type;
        private long[] _shape = [];

        protected override Tensor[] Forward(Tensor[] inputs)
        {
            using var scope = new TensorScope();
            (_order, _local, _adds) = (_order.Saved(Save), _local.Saved(Save), inputs.Length > 1);
            var returned = exchange.Return(_local.Sum(inputs[0].Contiguous()), "moe.combine");
            var tokens = _order.Sum(returned, _adds ? inputs[1].Contiguous() : null);
            (_shape, _type) = (tokens.Shape, tokens.DType);
            return [scope.Keep(tokens)];
        }

        protected override Tensor?[] Backward(Tensor?[] outputGradients)
        {
            var gradient = (outputGradients[0] ?? _order.Places.NewZeros(_shape, _type)).Contiguous();
            var arrived = exchange.Send(_order.Permute(gradient), "moe.combine.backward");
            var rows = _local.Permute(arrived);
            return _adds ? [rows, gradient] : [rows];
        }
    }
}

using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Distributed;

/// <summary>Dispatch on a rank that holds all experts: a permutation, without communication.</summary>
/// <param name="experts">E, at least 1.</param>
public sealed class LocalDispatcher(int experts) : TokenDispatcher(experts, ranks: 1, rank: 0)
{
    private protected override Dispatched Route(Tensor tokens, Tensor expertIds, Tensor weights)
    {
        return Along(PairOrder.Of(expertIds, Experts), tokens, weights, makesResult: true);
    }

    private Dispatched Along(PairOrder order, Tensor tokens, Tensor weights, bool makesResult)
    {
        var outputs = new PermuteFunction(order, WeightType(tokens)).Apply(tokens, weights);
        return new Dispatched(
            this,
            outputs[0],
            outputs[1],
            order.Groups,
            tokens.Size(0),
            (rows, added) =>
            {
                var sum = new SumFunction(order, makesResult);
                return (added is null ? sum.Apply(rows) : sum.Apply(rows, added))[0];
            })
        {
            Source = new RowSource(tokens.Contiguous(), tokens.Size(1), order, IsAlone: false),
            Course = save =>
            {
                var kept = order.Saved(save);
                return (again, againWeights, wanted) => Along(kept, again, againWeights, wanted);
            },
        };
    }

    /// <summary>tokens [T, D], weights [T, k] -> rows [R, D], weights [R].</summary>
    private sealed class PermuteFunction(PairOrder order, DType weightType) : Function
    {
        private PairOrder _order = order;
        private DType _type;
        private DType _weightsType;
        private long[] _shape = [];

        protected override Tensor[] Forward(Tensor[] inputs)
        {
            using var scope = new TensorScope();
            _order = _order.Saved(Save);
            var rows = _order.Permute(inputs[0].Contiguous());
            var weights = _order.PermuteNumbers(inputs[1].To(weightType).Contiguous());
            (_shape, _type, _weightsType) = (rows.Shape, rows.DType, inputs[1].DType);
            return [scope.Keep(rows), scope.Keep(weights)];
        }

        protected override Tensor?[] Backward(Tensor?[] outputGradients)
        {
            var places = _order.Places;
            var rows = outputGradients[0] ?? places.NewZeros(_shape, _type);
            var weights = outputGradients[1] ?? places.NewZeros([_shape[0]], weightType);
            return
            [
                NeedsGradient(0) ? _order.Sum(rows.Contiguous()) : null,
                NeedsGradient(1) ? _order.NumbersOfPairs(weights.Contiguous()).To(_weightsType) : null,
            ];
        }
    }

    /// <summary>rows [R, D] and what is added [T, D] -> tokens [T, D].</summary>
    private sealed class SumFunction(PairOrder order, bool makesResult) : Function
    {
        private PairOrder _order = order;
        private bool _adds;

        protected override Tensor[] Forward(Tensor[] inputs)
        {
            _order = _order.Saved(Save);
            _adds = inputs.Length > 1;
            return makesResult
                ? [_order.Sum(inputs[0].Contiguous(), _adds ? inputs[1].Contiguous() : null)]
                : [inputs[0].NewEmpty([_order.Places.Count / _order.Slots, inputs[0].Size(1)])];
        }

        protected override Tensor?[] Backward(Tensor?[] outputGradients)
        {
            var rows = outputGradients[0] is { } gradient ? _order.Permute(gradient.Contiguous()) : null;
            return _adds ? [rows, outputGradients[0]] : [rows];
        }
    }
}

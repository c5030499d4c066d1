using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Dispatch and combine as a permutation of this rank's tokens followed by an exchange of rows, and back; both on the graph.</summary>
internal static class PermutedDispatch
{
    public static Dispatched Route(TokenDispatcher dispatcher, Tensor tokens, Tensor expertIds, TokenPermutation permutation, RowExchange exchange)
    {
        var rows = new DispatchFunction(permutation, exchange).Apply(tokens)[0];
        return new Dispatched(
            dispatcher,
            rows,
            exchange.RowsPerExpert,
            expertIds.Shape,
            (results, weights) => new CombineFunction(permutation, exchange).Apply(results, weights)[0]);
    }

    // The engine gives no gradient where nothing depended on the output; the other ranks may still wait for this one's rows.
    private static Tensor OrZeros(Tensor? gradient, long[] shape, DType type) => gradient ?? Tensor.Zeros(shape, type);

    /// <summary>tokens [T, D] -> rows [R, D].</summary>
    private sealed class DispatchFunction(TokenPermutation permutation, RowExchange exchange) : Function
    {
        private long[] _shape = [];
        private DType _type;

        protected override Tensor[] Forward(Tensor[] inputs)
        {
            using var scope = new TensorScope();
            var rows = exchange.Send(permutation.Permute(inputs[0]), "moe.dispatch");
            (_shape, _type) = (rows.Shape, rows.DType);
            return [scope.Keep(rows)];
        }

        protected override Tensor?[] Backward(Tensor?[] outputGradients)
        {
            var gradient = OrZeros(outputGradients[0], _shape, _type);
            return [permutation.Sum(exchange.Return(gradient, "moe.dispatch.backward"))];
        }
    }

    /// <summary>rows [R, D], weights [T, k] -> tokens [T, D].</summary>
    private sealed class CombineFunction(TokenPermutation permutation, RowExchange exchange) : Function
    {
        private Tensor? _returned;
        private Tensor? _weights;
        private long[] _shape = [];
        private DType _type;

        protected override Tensor[] Forward(Tensor[] inputs)
        {
            using var scope = new TensorScope();
            var returned = exchange.Return(inputs[0], "moe.combine");
            var tokens = permutation.Sum(returned, inputs[1]);
            (_shape, _type) = (tokens.Shape, tokens.DType);
            _weights = Save(inputs[1]);
            _returned = NeedsGradient(1) ? Save(returned) : null;
            return [scope.Keep(tokens)];
        }

        protected override Tensor?[] Backward(Tensor?[] outputGradients)
        {
            var weights = _weights!;
            var gradient = OrZeros(outputGradients[0], _shape, _type);
            var rowGradient = exchange.Send(permutation.Permute(gradient, weights), "moe.combine.backward");
            return [rowGradient, _returned is null ? null : permutation.Dot(gradient, _returned).To(weights.DType)];
        }
    }
}

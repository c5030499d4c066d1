using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Distributed;

/// <summary>
/// Dispatch by exchanges between ranks. Beside the two recorded halves of every dispatcher it gives out the way itself, cut into chunks of tokens,
/// so that a caller can lay the exchanges over other work.
/// </summary>
/// <remarks>Shapes: T tokens, k slots, D width; n rows arrive, R rows of this rank's experts are made of them.</remarks>
public abstract class ExchangingDispatcher : TokenDispatcher
{
    private readonly int _chunks = 1;

    private protected ExchangingDispatcher(int experts, int ranks, int rank)
        : base(experts, ranks, rank)
    {
    }

    /// <summary>Parts, at least 1, into which a rank's tokens are cut where the exchanges are laid over other work; the same on all ranks.</summary>
    public int Chunks
    {
        get => _chunks;
        init => _chunks = value >= 1 ? value : throw new ArgumentOutOfRangeException(nameof(value), value, "a dispatch has at least one chunk");
    }

    /// <summary>Bytes that this rank may still take, asked once a dispatch; null where there is no limit.</summary>
    public Func<long>? FreeBytes { get; init; }

    /// <summary>Finds out where tokens go. All sizes of all chunks travel in one exchange, and are what the host waits for, once.</summary>
    /// <param name="expertIds">[T, k] int64 in [0, E]; E stands for a dropped choice, which is sent nowhere.</param>
    /// <param name="chunks">Parts of whole tokens, as even as can be; some are empty where there are fewer tokens. The same on all ranks.</param>
    /// <returns>One a chunk, in the order of the tokens.</returns>
    /// <exception cref="ArgumentException">An id is not as above.</exception>
    /// <exception cref="CommunicationException">The exchange failed.</exception>
    public abstract TokenRoute[] Plan(Tensor expertIds, int chunks);

    /// <summary>Start and length of each chunk.</summary>
    private protected static (long Start, long Length)[] Cut(long tokens, int chunks) =>
        [.. Enumerable.Range(0, chunks).Select(chunk => (tokens * chunk / chunks, (tokens * (chunk + 1) / chunks) - (tokens * chunk / chunks)))];

    private protected override Dispatched Route(Tensor tokens, Tensor expertIds, Tensor weights)
    {
        var function = new DispatchFunction(Plan(expertIds, 1)[0], WeightType(tokens), LocalExperts);
        var outputs = function.Apply(tokens, weights);
        var (route, local) = (function.Route, function.Local);
        return new Dispatched(
            this,
            outputs[0],
            outputs[1],
            local.Groups,
            tokens.Size(0),
            (rows, added) =>
            {
                var combine = new CombineFunction(route, local);
                return (added is null ? combine.Apply(rows) : combine.Apply(rows, added))[0];
            });
    }

    /// <summary>tokens [T, D], weights [T, k] -> rows [R, D], weights [R].</summary>
    private sealed class DispatchFunction(TokenRoute route, DType weightType, int localExperts) : Function
    {
        private PairOrder? _local;
        private DType _type;
        private DType _weightsType;
        private long[] _shape = [];

        /// <summary>As it was saved.</summary>
        public TokenRoute Route { get; private set; } = route;

        /// <summary>The order of the rows among this rank's experts.</summary>
        public PairOrder Local { get; private set; } = null!;

        protected override Tensor[] Forward(Tensor[] inputs)
        {
            Route = Route.Saved(Save);
            var (tokens, weights) = (inputs[0], inputs[1]);
            var width = tokens.Size(1);
            using var arrived = Route.Send(tokens.Contiguous(), weights.To(weightType).Contiguous()).Await();
            var choices = PackedRows.Choices(arrived, width, weights.Size(1));
            Local = PairOrder.Of(choices.Ids, localExperts).First(Route.ArrivingChoices);
            _local = Local.Saved(Save);
            var rows = Local.Permute(arrived.Narrow(1, 0, width));
            (_shape, _type, _weightsType) = (rows.Shape, rows.DType, weights.DType);
            return [rows, Local.PermuteNumbers(choices.Weights)];
        }

        protected override Tensor?[] Backward(Tensor?[] outputGradients)
        {
            // The engine gives no gradient where nothing depended on the output; the other ranks still wait for this one's rows.
            var places = _local!.Places;
            var width = _shape[1];
            var rows = (outputGradients[0] ?? places.NewZeros(_shape, _type)).Contiguous();
            var weights = (outputGradients[1] ?? places.NewZeros([_shape[0]], weightType)).Contiguous();
            using var returned = Route.ReturnGradients(PackedRows.PackGradients(rows, weights, _local), width).Await();
            var gradients = new Tensor?[2];
            if (NeedsGradient(0))
            {
                gradients[0] = returned.NewEmpty([Route.Tokens, width]);
                Route.SumGradientsInto(returned, null, gradients[0]!);
            }

            if (NeedsGradient(1))
            {
                var ofWeights = returned.NewEmpty([Route.Tokens, _local.Slots], weightType);
                Route.WeightGradientsInto(returned, width, ofWeights);
                gradients[1] = ofWeights.To(_weightsType);
            }

            return gradients;
        }
    }

    /// <summary>rows [R, D] and what is added [T, D] -> tokens [T, D].</summary>
    private sealed class CombineFunction(TokenRoute route, PairOrder local) : Function
    {
        private TokenRoute _route = route;
        private PairOrder _local = local;
        private bool _adds;
        private DType _type;
        private long[] _shape = [];

        protected override Tensor[] Forward(Tensor[] inputs)
        {
            using var scope = new TensorScope();
            (_route, _local, _adds) = (_route.Saved(Save), _local.Saved(Save), inputs.Length > 1);
            using var returned = _route.Return(_local.Sum(inputs[0].Contiguous())).Await();
            var tokens = returned.NewEmpty([_route.Tokens, inputs[0].Size(1)]);
            _route.SumInto(returned, _adds ? inputs[1].Contiguous() : null, tokens);
            (_shape, _type) = (tokens.Shape, tokens.DType);
            return [scope.Keep(tokens)];
        }

        protected override Tensor?[] Backward(Tensor?[] outputGradients)
        {
            var gradient = (outputGradients[0] ?? _local.Places.NewZeros(_shape, _type)).Contiguous();
            using var arrived = _route.SendGradients(gradient).Await();
            var rows = _local.Permute(arrived);
            return _adds ? [rows, gradient] : [rows];
        }
    }
}

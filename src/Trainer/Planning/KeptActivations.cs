using Moe.Torch;
using Moe.Torch.Kernels;
using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>
/// Bytes of activations of a micro-batch on a rank: what each layer hands to its backward, by what the run computes again. It counts what `Save` in the
/// functions of Moe.Models and Moe.Distributed keeps, and what libtorch's operators do.
/// </summary>
/// <param name="model">On its mesh.</param>
/// <param name="choice">What is computed again.</param>
internal sealed class KeptActivations(PlannedModel model, MemoryChoice choice)
{
    private const string InputsKind = "inputs of layers";

    private readonly ILookup<int?, Parameter> _parameters = model.Parameters.ToLookup(parameter => parameter.Layer);
    private readonly ModelConfig _shape = model.Config.Model;
    private readonly long _tokens = model.Tokens;
    private readonly long _narrow = model.ActivationSize;
    private readonly long _wide = model.WideSize;
    private (long Kept, long Movable)[]? _upTo; // sums over the layers, since a plan asks for each of them
    private long _onTheWay;

    /// <summary>On the device, from the end of the forward on.</summary>
    public IReadOnlyList<MemoryItem> Items()
    {
        var sums = new Dictionary<string, long>();
        for (var layer = 0; layer < _shape.Layers; layer++)
        {
            foreach (var (kind, bytes) in Kept(layer, choice.Of(layer)))
            {
                sums[kind] = sums.GetValueOrDefault(kind) + bytes - (choice.Offloads && kind == MovableKind(layer) ? Movable(layer) : 0);
            }
        }

        var normed = _tokens * _shape.Width * _narrow;
        var copies = Enumerable.Range(0, _shape.Layers).Sum(KeptCopies) + Copies(null);
        return
        [
            new("norms", sums.GetValueOrDefault("norms") + Norm),
            .. sums.Where(sum => sum.Key != "norms").Select(sum => new MemoryItem(sum.Key, sum.Value)),
            new("head's gradients", ((long)_shape.Vocabulary * _shape.Width * _wide) + normed), // made in forward, see LinearCrossEntropy
            new("weights in the type of the products", copies),
            new("on the way to or from the host", OnTheWay()),
        ];
    }

    /// <summary>What backward makes once more of a layer, beyond what the layers above it have freed by then; of the layer where that is most.</summary>
    public long Again()
    {
        var (most, freed) = (0L, 0L);
        for (var layer = _shape.Layers - 1; layer >= 0; layer--)
        {
            most = Math.Max(most, Again(layer) - freed);
            freed += Kept(layer);
        }

        return most;
    }

    /// <summary>What backward makes once more of a layer.</summary>
    public long Again(int layer) => choice.Of(layer) switch
    {
        Recompute.Block => Kept(layer, Recompute.None).Sum(item => item.Bytes) + Copies(layer),
        Recompute.Experts => FeedForward(layer, Recompute.None) - FeedForward(layer, Recompute.Experts),
        _ => 0,
    };

    /// <summary>What is still kept while backward is in a layer: its own, and that of the layers below, to which backward has not come.</summary>
    public long UpTo(int layer)
    {
        if (_upTo is null)
        {
            var (kept, movable) = (0L, 0L);
            _upTo = [.. Enumerable.Range(0, _shape.Layers).Select(i => (kept += Kept(i), movable += Movable(i)))];
            _onTheWay = OnTheWay();
        }

        return _upTo[layer].Kept + Math.Min(_onTheWay, _upTo[layer].Movable);
    }

    /// <summary>Bytes that go to the host's memory in a forward, and come back in a backward.</summary>
    public long Moved() => choice.Offloads ? Enumerable.Range(0, _shape.Layers).Sum(Movable) : 0;

    /// <summary>Operations that backward makes once more.</summary>
    public double Operations() => Enumerable.Range(0, _shape.Layers).Sum(layer => choice.Of(layer) switch
    {
        Recompute.Block => BlockOperations(layer),
        Recompute.Experts => FirstProducts(layer),
        _ => 0,
    });

    private long Norm => _tokens * ((_shape.Width * _narrow) + _wide); // the sum that it norms, and one number a row

    private bool IsDense(int layer) => layer < _shape.DenseLayers;

    private string FeedForwardKind(int layer) => IsDense(layer) ? "dense feed-forward" : "experts";

    private bool IsPeri => _shape.Norm == NormPlacement.Peri;

    private long Kept(int layer) => Kept(layer, choice.Of(layer)).Sum(item => item.Bytes) - (choice.Offloads ? Movable(layer) : 0) + KeptCopies(layer);

    private IEnumerable<MemoryItem> Kept(int layer, Recompute recompute)
    {
        if (recompute == Recompute.Block)
        {
            yield return new(InputsKind, Inputs(layer));
            if (!IsDense(layer))
            {
                yield return new("router", Choices(recompute) + (_tokens * _shape.Moe.TopK * _wide));
            }

            yield break;
        }

        var (heads, shared, head) = ((long)_shape.Heads, (long)_shape.KeyValueHeadCount, (long)_shape.HeadSize);
        var normed = _tokens * _shape.Width * _narrow;
        var headNorms = _shape.QueryKeyNorm ? _tokens * (heads + shared) * ((head * _narrow) + _wide) : 0;
        yield return new("norms", ((IsPeri ? 4 : 2) * Norm) + (2 * normed) + headNorms);
        yield return new("attention", _tokens * ((((2 * heads) + (2 * shared)) * head * _narrow) + (heads * _wide))); // projection, result, one number a query
        if (!IsDense(layer))
        {
            yield return new("router", (_tokens * _shape.Moe.Experts * _wide) + Choices(recompute) + WideInput);
        }

        yield return new(FeedForwardKind(layer), FeedForward(layer, recompute));
    }

    // On a GPU the router's product takes bfloat16 rows as they are (RouterProductKernel, with libtorch 2.8 and later).
    private long WideInput => _narrow == _wide || model.Config.Parallel.Device == DeviceName.Cuda ? 0 : _tokens * _shape.Width * _wide;

    // Ids, and the orders of the rows that follow from them: of the tokens by rank, or by node and of what passes through by rank, and of what arrived by expert where the rows
    // are kept.
    private long Choices(Recompute recompute)
    {
        var slots = (long)_shape.Moe.TopK;
        if (model.Config.Parallel.Dispatcher == DispatcherName.AllGather)
        {
            return _tokens * slots * 4 * sizeof(long);
        }

        if (!Exchanges)
        {
            return _tokens * slots * (sizeof(long) + (2 * sizeof(int)));
        }

        var byExpert = recompute == Recompute.None ? sizeof(int) * (model.Rows + (long)(model.PackedRows * slots)) : 0;
        if (!model.GoesOverNodes)
        {
            return Hop(_tokens, model.Mesh.Expert.Size) + byExpert;
        }

        // What passes through is ordered again where it passes again.
        var (inside, between) = model.Mesh.ExpertNodes();
        return Hop(_tokens, between.Size) + (recompute == Recompute.Block ? 0 : Hop((long)model.RowsFor(between.Size), inside.Size)) + byExpert;
    }

    // Of a TokenHop: ids, destinations, and their order.
    private long Hop(long rows, int destinations)
    {
        var slots = (long)_shape.Moe.TopK;
        return rows * ((slots * sizeof(long)) + (Math.Min(slots, destinations) * (sizeof(long) + (2 * sizeof(int)))));
    }

    private bool Exchanges => model.Config.Parallel.Dispatcher is DispatcherName.AllToAll or DispatcherName.TwoLevel || model.Mesh.Expert.Size > 1;

    // The stream and its change; the first layer's input has none.
    private long Inputs(int layer) => (layer == 0 ? 1 : 2) * _tokens * _shape.Width * _narrow;

    private long FeedForward(int layer, Recompute recompute)
    {
        var moe = _shape.Moe;
        if (IsDense(layer))
        {
            return recompute == Recompute.None ? _tokens * 2L * _shape.DenseHiddenSize * _narrow : 0;
        }

        var hidden = (model.Rows * 2L * moe.ExpertWidth * _narrow) + (_tokens * 2L * moe.SharedExperts * moe.ExpertWidth * _narrow);
        return recompute == Recompute.None ? (model.Rows * ((_shape.Width * _narrow) + _wide)) + hidden : Arrived;
    }

    // What rows are gathered from again: of other ranks what they sent, weights included; on a rank alone the tokens that the router keeps. The slow
    // reference keeps the rows.
    private long Arrived => model.Config.Parallel.Dispatcher == DispatcherName.AllGather ? model.Rows * ((_shape.Width * _narrow) + _wide)
        : Exchanges ? Packed
        : model.Rows * _wide;

    private long Packed => (long)(model.PackedRows * PackedRows.Stride(ModelAssembly.ComputeType(model.Config.Train.Precision), _shape.Width, _shape.Moe.TopK, withIds: true) * _narrow);

    private long Movable(int layer) => choice.Of(layer) switch
    {
        Recompute.Block => Inputs(layer),
        Recompute.Experts => IsDense(layer) || !Exchanges ? 0 : Arrived,
        _ => FeedForward(layer, Recompute.None) - (IsDense(layer) ? 0 : model.Rows * _wide),
    };

    private string MovableKind(int layer) => choice.Of(layer) == Recompute.Block ? InputsKind : FeedForwardKind(layer);

    // What is on the device of that at a time: HostStore.Resident functions' of a layer or more.
    private long OnTheWay() => choice.Offloads
        ? Math.Min(Moved(), HostStore.Resident * Enumerable.Range(0, _shape.Layers).Max(Movable))
        : 0;

    private long KeptCopies(int layer) => choice.Of(layer) == Recompute.Block ? 0 : Copies(layer);

    private long Copies(int? layer) => _parameters[layer]
        .Where(parameter => parameter.Kind is ParameterKind.Matrix or ParameterKind.Expert && parameter.Value.DType.Size() != _narrow)
        .Sum(parameter => parameter.Value.Count * _narrow);

    private double FirstProducts(int layer) => 2.0 * 2 * _shape.Width * Hidden(layer);

    // Rows times width of the feed-forward parts.
    private double Hidden(int layer) => IsDense(layer)
        ? (double)_tokens * _shape.DenseHiddenSize
        : ((double)model.Rows * _shape.Moe.ExpertWidth) + ((double)_tokens * _shape.Moe.SharedExperts * _shape.Moe.ExpertWidth);

    // All products of a forward but those of which nothing within the layer depends: the last of the feed-forward part.
    private double BlockOperations(int layer)
    {
        var (heads, shared, head) = ((double)_shape.Heads, (double)_shape.KeyValueHeadCount, (double)_shape.HeadSize);
        var projections = 2.0 * _tokens * _shape.Width * ((2 * heads) + (2 * shared)) * head;
        var attention = 2.0 * _tokens * (_shape.SequenceLength + 1) * heads * head;
        var router = IsDense(layer) ? 0 : 2.0 * _tokens * _shape.Width * _shape.Moe.Experts;
        return projections + attention + router + FirstProducts(layer) + (IsPeri ? 2.0 * _shape.Width * Hidden(layer) : 0);
    }
}

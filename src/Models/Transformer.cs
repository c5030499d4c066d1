using Moe.Distributed;
using Moe.Torch;

namespace Moe.Models;

/// <summary>What a forward pass over one micro-batch yields.</summary>
/// <param name="LossSum">A scalar in float32 (float64 in float64 models), on the graph: sum over tokens of -log p(target), in nats.</param>
/// <param name="Routers">One a layer with experts, in the order of the layers.</param>
public sealed record ForwardResult(Tensor LossSum, IReadOnlyList<RouterStatistics> Routers);

/// <summary>A decoder-only language model whose feed-forward parts are, from some layer on, mixtures of experts.</summary>
/// <remarks>
/// Shapes: B sequences of S tokens, T = B S, width D, vocabulary V. Every rank feeds tokens of its own and holds the experts that its
/// dispatcher names; everything else it holds whole. Losses are sums over tokens, to be divided by the global number of tokens once.
/// Parameters stay in the type they were made in; where the compute type is bfloat16 float32 ones are rounded at each use, and routers,
/// norms, softmax and losses work in float32.
/// </remarks>
public sealed class Transformer : IDisposable
{
    private readonly TransformerLayer[] _layers;
    private readonly RotaryTable _rotary;
    private readonly Parameter _embedding;
    private readonly Parameter _finalNorm;
    private readonly Parameter _head;
    private readonly DType _computeType;
    private readonly ILookup<int?, Parameter> _parametersOfLayer;

    /// <param name="options">The model's shape.</param>
    /// <param name="dispatcher">Says which experts this rank holds, and brings the tokens to them.</param>
    /// <param name="seed">Of the initial weights, which are a function of it and of each parameter's key alone.</param>
    /// <param name="parameterType">Of matrices: Float32, Float64, or BFloat16, beside which norms and routers are Float32.</param>
    /// <param name="computeType">The parameters' type, or BFloat16 beside Float32 parameters.</param>
    /// <param name="device">Where the parameters stand, and tokens are expected.</param>
    /// <exception cref="ArgumentException">Lengths or types don't fit each other, or the dispatcher is for another number of experts.</exception>
    public Transformer(
        TransformerOptions options,
        TokenDispatcher dispatcher,
        ulong seed,
        DType parameterType = DType.Float32,
        DType computeType = DType.Float32,
        Device device = default)
        : this(options, dispatcher, new ParameterInitializer(seed, parameterType, device), parameterType, computeType)
    {
    }

    private Transformer(TransformerOptions options, TokenDispatcher dispatcher, ParameterInitializer initializer, DType parameterType, DType computeType)
    {
        options.Check();
        if (parameterType is not (DType.Float32 or DType.Float64 or DType.BFloat16)
            || computeType != parameterType && (parameterType, computeType) != (DType.Float32, DType.BFloat16))
        {
            throw new ArgumentException($"parameters in {parameterType} can't be worked in {computeType}", nameof(computeType));
        }

        if (options.DenseLayers < options.Layers && dispatcher.Experts != options.Moe.Experts)
        {
            throw new ArgumentException($"the dispatcher is for {dispatcher.Experts} experts, the model has {options.Moe.Experts}", nameof(dispatcher));
        }

        (Options, _computeType) = (options, computeType);
        _rotary = new RotaryTable(options.SequenceLength, options.HeadWidth, options.RotaryBase);
        long[] table = [options.Vocabulary, options.Width];
        _embedding = initializer.Normal("embedding", table, options.InitStd, ParameterKind.Embedding);
        _layers = [.. Enumerable.Range(0, options.Layers).Select(i => new TransformerLayer(i, options, _rotary, dispatcher, initializer))];
        _finalNorm = initializer.Norm("final_norm", options.Width);
        _head = options.TieEmbeddings ? _embedding : initializer.Normal("head", table, options.InitStd, ParameterKind.Head);
        Parameters = initializer.Parameters;
        _parametersOfLayer = Parameters.ToLookup(parameter => parameter.Layer);
        SelectionBiases = [.. ExpertLayers.Select(experts => experts.Bias)];
    }

    /// <summary>The model's shape.</summary>
    public TransformerOptions Options { get; }

    /// <summary>Where its parameters stand.</summary>
    public Device Device => _embedding.Value.Device;

    /// <summary>Everything that is trained on this rank; the same names in the same order on all ranks.</summary>
    public IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>[E] float32 a layer with experts, added to the router's scores for the selection: state, but not trained by gradients.</summary>
    public IReadOnlyList<LogicalTensor> SelectionBiases { get; }

    /// <summary>Told the index of each layer before its forward, so that what it communicates can be labelled.</summary>
    public Action<int>? LayerStarting { get; set; }

    /// <summary>
    /// Called in a backward when it has left a layer, with the layer's index: the gradients of that layer and of all behind it are whole, as the head's are. First
    /// with the number of layers, for final norm and head alone. Not called where nothing below takes a gradient.
    /// </summary>
    public Action<int>? LayerLeft { get; set; }

    /// <summary>What its layers keep for backward. To be set before the first forward; the model disposes it.</summary>
    public ActivationPlan Activations { get; init; } = new();

    private IEnumerable<MoeFeedForward> ExpertLayers => _layers.Select(layer => layer.Experts).OfType<MoeFeedForward>();

    /// <summary>A model of shapes alone, whose parameters take no memory and can't be computed with: for counting what a rank would hold.</summary>
    /// <param name="options">The model's shape.</param>
    /// <param name="dispatcher">Says which experts a rank holds.</param>
    /// <param name="parameterType">As of a model.</param>
    /// <param name="computeType">As of a model.</param>
    public static Transformer Outline(TransformerOptions options, TokenDispatcher dispatcher, DType parameterType, DType computeType) =>
        new(options with { SequenceLength = 1 }, dispatcher, new ParameterInitializer(0, parameterType, isOutline: true), parameterType, computeType);

    /// <summary>The loss of one micro-batch, and what the routers did.</summary>
    /// <param name="tokens">[B, S] int64; B may be 0.</param>
    /// <param name="targets">[B, S] int64: the token that follows each; -100 is not counted.</param>
    /// <param name="sequencesPerSegment">Sequences whose balance is judged together; divides B.</param>
    /// <param name="sequencesPerCapacity">Sequences that share an expert's capacity; divides B. Null for <paramref name="sequencesPerSegment"/>.</param>
    /// <param name="counted">
    /// Told, when all routers have chosen and before the head's work, how often each expert was chosen over all segments: [M, E] int64 for M layers with experts.
    /// </param>
    /// <exception cref="ArgumentException">S is above the options' sequence length, or the segments don't come out even.</exception>
    public ForwardResult Forward(
        Tensor tokens, Tensor targets, long sequencesPerSegment, long? sequencesPerCapacity = null, Action<Tensor>? counted = null)
    {
        var routers = new List<RouterStatistics>();
        var batch = Divide(tokens, sequencesPerSegment, sequencesPerCapacity ?? sequencesPerSegment);
        var hidden = Embed(tokens);
        for (var layer = 0; layer < _layers.Length; layer++)
        {
            Watch(layer, hidden);
            hidden = Pass(layer, hidden, batch, routers);
        }

        Watch(_layers.Length, hidden);
        using var scope = new TensorScope();
        if (counted is not null)
        {
            using var counting = Spans.Open("balance");
            counted(Counts(tokens, routers));
        }

        var normed = FinalNorm(hidden);
        using var span = Spans.Open("head");
        var loss = LinearCrossEntropy.Apply(normed, _head.Value, targets.Reshape(-1));
        hidden.Dispose();
        return new ForwardResult(scope.Keep(loss), routers);
    }

    /// <summary>Scores of every token that may follow: [B, S] int64 -> [B, S, V] in float32 (float64 in float64 models).</summary>
    /// <exception cref="ArgumentException">S is above the options' sequence length.</exception>
    public Tensor Logits(Tensor tokens)
    {
        var hidden = Pass(tokens);
        using var scope = new TensorScope();
        var logits = Scores(hidden).View(tokens.Size(0), tokens.Size(1), Options.Vocabulary);
        hidden.Dispose();
        return scope.Keep(logits);
    }

    /// <summary>Scores of every token that may follow a sequence's last: [B, S] int64 -> [B, V], of <see cref="Logits"/> the last of S up to the rounding of a product.</summary>
    /// <exception cref="ArgumentException">S is above the options' sequence length.</exception>
    public Tensor NextLogits(Tensor tokens)
    {
        var hidden = Pass(tokens);
        using var scope = new TensorScope();
        Tensor Last(Tensor rows) => rows.View(tokens.Size(0), tokens.Size(1), Options.Width).Select(1, tokens.Size(1) - 1).Contiguous();
        var logits = Scores(new Residual(Last(hidden.Stream), hidden.Change is { } change ? Last(change) : null));
        hidden.Dispose();
        return scope.Keep(logits);
    }

    /// <summary>What each layer's experts will be chosen how often, without loss, gradients, or the last layer's experts.</summary>
    /// <param name="tokens">[B, S] int64.</param>
    /// <param name="sequencesPerCapacity">As in <see cref="Forward"/>: it decides what a full expert drops.</param>
    /// <returns>
    /// [M, E] int64 for M layers with experts: exactly the counts of <see cref="Forward"/>, summed over its segments, where the experts' memory allows both the
    /// same blocks.
    /// </returns>
    public Tensor CountSelections(Tensor tokens, long sequencesPerCapacity)
    {
        using var scope = new TensorScope();
        using var mode = Autograd.NoGrad();
        var routers = new List<RouterStatistics>();
        var batch = Divide(tokens, 1, sequencesPerCapacity);
        var hidden = Embed(tokens);
        for (var layer = 0; layer < _layers.Length - 1; layer++)
        {
            hidden = Pass(layer, hidden, batch, routers, IsReached(layer));
        }

        if (_layers[^1].Experts is not null)
        {
            LayerStarting?.Invoke(_layers.Length - 1);
            using var span = Spans.Phase("layer", _layers.Length - 1);
            routers.Add(_layers[^1].RouteOnly(hidden, batch).Statistics);
        }

        return scope.Keep(Counts(tokens, routers));
    }

    /// <summary>Frees the parameters, their gradients, the biases and the rotary angles.</summary>
    public void Dispose()
    {
        foreach (var parameter in Parameters)
        {
            parameter.Value.Dispose();
        }

        foreach (var experts in ExpertLayers)
        {
            experts.Dispose();
        }

        _rotary.Dispose();
        Activations.Dispose();
    }

    // Through all layers.
    private Residual Pass(Tensor tokens)
    {
        var batch = Divide(tokens, 1, 1);
        var hidden = Embed(tokens);
        for (var layer = 0; layer < _layers.Length; layer++)
        {
            hidden = Pass(layer, hidden, batch, []);
        }

        return hidden;
    }

    // The head's product: [N, D] -> [N, V].
    private Tensor Scores(Residual hidden)
    {
        var type = LinearAlgebra.ProductType(_computeType, Device);
        return FinalNorm(hidden).To(type).Linear(_head.Value.To(_computeType).To(type)).To(_head.Value.DType);
    }

    // What a layer makes on the way ends with it; only its result and statistics go on, and what autograd keeps.
    private Residual Pass(int layer, Residual hidden, Batch batch, List<RouterStatistics> routers, bool plansBackward = false)
    {
        LayerStarting?.Invoke(layer);
        using var span = Spans.Phase("layer", layer);
        using var scope = new TensorScope();
        var (output, statistics) = Activations.Of(layer) == Recomputation.Block
            ? PassTwice(layer, hidden, batch, SwiGluForm.Whole with { PlansBackward = plansBackward })
            : Results(_layers[layer].Forward(hidden, batch, Activations.FormOf(layer) with { PlansBackward = plansBackward }));
        hidden.Dispose();
        if (statistics is not null)
        {
            scope.Keep(statistics.Counts);
            scope.Keep(statistics.ScoreSums);
            scope.Keep(statistics.SquaredLogSumExp);
            scope.Keep(statistics.Dropped);
            routers.Add(statistics);
        }

        scope.Keep(output.Stream);
        scope.Keep(output.Change!);
        return output;
    }

    // The change is what the layer below made last: its gradient comes before anything else of that layer is computed.
    private void Watch(int layer, Residual entering)
    {
        var last = entering.Change is { RequiresGrad: true } change ? change : entering.Stream;
        if (LayerLeft is { } left && last.RequiresGrad)
        {
            Autograd.OnGradient(last, () => left(layer));
        }
    }

    private Tensor Counts(Tensor tokens, List<RouterStatistics> routers) => routers.Count == 0
        ? tokens.NewZeros([0, Options.Moe.Experts])
        : Shaping.Stack([.. routers.Select(router => router.Counts.Sum(0))]);

    // Now, and again in backward where one may come.
    private (Residual Output, RouterStatistics? Statistics) PassTwice(int index, Residual hidden, Batch batch, SwiGluForm form)
    {
        var layer = _layers[index];
        RouterStatistics? statistics = null;
        var outputs = Recomputed.Apply(
            hidden.Change is null ? [hidden.Stream] : [hidden.Stream, hidden.Change],
            (inputs, keep) =>
            {
                var first = layer.Forward(Residual.Of(inputs), batch, form, keep);
                statistics = first.Routing?.Statistics;
                var decision = keep is null ? null : first.Routing?.Decision?.Saved(keep);
                return new FirstPass(OnGraph(first), again =>
                {
                    LayerStarting?.Invoke(index);
                    return OnGraph(layer.ForwardAgain(Residual.Of(again), batch, decision, first.Experts));
                });
            },
            Trains(index),
            Activations.Store);
        return (Residual.Of(outputs), statistics is null ? null : statistics with { ScoreSums = outputs[2], SquaredLogSumExp = outputs[3] });
    }

    private bool Trains(int layer) => _parametersOfLayer[layer].Any(parameter => parameter.Value.RequiresGrad);

    // Whether backward comes as far down as this layer: to it, or to something below.
    private bool IsReached(int layer) => _embedding.Value.RequiresGrad || Enumerable.Range(0, layer + 1).Any(Trains);

    private static (Residual Output, RouterStatistics? Statistics) Results(LayerPass pass) => (pass.Output, pass.Routing?.Statistics);

    private static Tensor[] OnGraph(LayerPass pass) => pass.Routing is { Statistics: var statistics }
        ? [pass.Output.Stream, pass.Output.Change!, statistics.ScoreSums, statistics.SquaredLogSumExp]
        : [pass.Output.Stream, pass.Output.Change!];

    private Batch Divide(Tensor tokens, long sequencesPerSegment, long sequencesPerCapacity)
    {
        if (tokens.Rank != 2 || tokens.Size(1) < 1 || tokens.Size(1) > Options.SequenceLength)
        {
            throw new ArgumentException($"tokens should be [B, S] with S from 1 to {Options.SequenceLength}, not {tokens}", nameof(tokens));
        }

        return new Batch(tokens.Size(1), Segments(tokens.Size(0), sequencesPerSegment), Segments(tokens.Size(0), sequencesPerCapacity));
    }

    private static long Segments(long sequences, long perSegment) => perSegment >= 1 && sequences % perSegment == 0
        ? sequences / perSegment
        : throw new ArgumentException($"{sequences} sequences don't divide into segments of {perSegment}", nameof(perSegment));

    private Residual Embed(Tensor tokens)
    {
        using var span = Spans.Open("embedding");
        using var scope = new TensorScope();
        return new Residual(scope.Keep(Embedding.Apply(_embedding.Value, tokens.Reshape(-1)).To(_computeType)), null);
    }

    private Tensor FinalNorm(Residual hidden) => hidden.Norm(_finalNorm, Options.NormEpsilon).Normed;
}

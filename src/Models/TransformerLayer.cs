using Moe.Distributed;
using Moe.Torch;

namespace Moe.Models;

/// <summary>Attention and a feed-forward part, dense or of experts, each added to the residual stream.</summary>
internal sealed class TransformerLayer
{
    private readonly SelfAttention _attention;
    private readonly FeedForward? _dense;
    private readonly Parameter _attentionNorm;
    private readonly Parameter _feedForwardNorm;
    private readonly Parameter? _attentionOutputNorm;
    private readonly Parameter? _feedForwardOutputNorm;
    private readonly double _epsilon;

    internal TransformerLayer(int index, TransformerOptions options, RotaryTable rotary, TokenDispatcher dispatcher, ParameterInitializer initializer)
    {
        var name = FormattableString.Invariant($"layers.{index}");
        _epsilon = options.NormEpsilon;
        _attentionNorm = initializer.Norm($"{name}.attention_norm", options.Width);
        _attention = new SelfAttention($"{name}.attention", options, rotary, initializer);
        _feedForwardNorm = initializer.Norm($"{name}.feed_forward_norm", options.Width);
        if (index < options.DenseLayers)
        {
            _dense = new FeedForward($"{name}.feed_forward", options.DenseWidth, options, initializer);
        }
        else
        {
            Experts = new MoeFeedForward($"{name}.moe", options, dispatcher, initializer);
        }

        if (options.Norm == NormPlacement.Peri)
        {
            _attentionOutputNorm = initializer.Norm($"{name}.attention_output_norm", options.Width);
            _feedForwardOutputNorm = initializer.Norm($"{name}.feed_forward_output_norm", options.Width);
        }
    }

    /// <summary>The experts; null in a dense layer.</summary>
    internal MoeFeedForward? Experts { get; }

    /// <summary>[B S, D] -> [B S, D], and what the router decided.</summary>
    /// <param name="x">The stream, and what is to be added to it.</param>
    /// <param name="batch">How its rows divide.</param>
    /// <param name="form">What the feed-forward parts keep.</param>
    /// <param name="keep">Keeps a tensor until a second pass; null where there will be none.</param>
    internal LayerPass Forward(Residual x, Batch batch, SwiGluForm form, Func<Tensor, Tensor>? keep = null)
    {
        var (stream, normed) = AfterAttention(x, batch);
        var routing = Experts?.Route(normed, batch);
        var (change, again) = routing is null ? (_dense!.Forward(normed, form), null) : Experts!.Forward(normed, routing, form, keep);
        return new LayerPass(new Residual(stream, OutputNorm(change, _feedForwardOutputNorm)), routing, again);
    }

    /// <summary>The same once more, for its graph: what was decided stands, and what no backward within needs is not made.</summary>
    /// <param name="x">As before.</param>
    /// <param name="batch">As before.</param>
    /// <param name="decision">What the router had decided; null in a dense layer.</param>
    /// <param name="experts">Of the first pass; null in a dense layer.</param>
    /// <returns>The change has values only where a norm follows within the layer.</returns>
    internal LayerPass ForwardAgain(Residual x, Batch batch, RoutingDecision? decision, ExpertsAgain? experts)
    {
        var form = SwiGluForm.Whole with { MakesResult = _feedForwardOutputNorm is not null };
        var (stream, normed) = AfterAttention(x, batch);
        var routing = decision is null ? null : Experts!.RouteAgain(normed, decision);
        var change = routing is null ? _dense!.Forward(normed, form) : experts!(normed, routing, form);
        return new LayerPass(new Residual(stream, OutputNorm(change, _feedForwardOutputNorm)), routing, null);
    }

    /// <summary>What the router of a layer with experts decides, without the experts' work.</summary>
    internal Routing RouteOnly(Residual x, Batch batch) => Experts!.Route(AfterAttention(x, batch).Normed, batch);

    // The stream behind attention, and what the feed-forward part gets of it.
    private (Tensor Stream, Tensor Normed) AfterAttention(Residual x, Batch batch)
    {
        var (stream, normed) = x.Norm(_attentionNorm, _epsilon);
        var change = OutputNorm(_attention.Forward(normed, batch.Length), _attentionOutputNorm);
        return new Residual(stream, change).Norm(_feedForwardNorm, _epsilon);
    }

    private Tensor OutputNorm(Tensor x, Parameter? scale)
    {
        if (scale is null)
        {
            return x;
        }

        using var span = Spans.Open("norm");
        return RmsNorm.Apply(x, scale.Value, _epsilon);
    }
}

/// <summary>What a layer makes of a micro-batch.</summary>
/// <param name="Output">Its results.</param>
/// <param name="Routing">What its router decided; null in a dense layer.</param>
/// <param name="Experts">Its experts once more; null in a dense layer, and of a second pass.</param>
internal readonly record struct LayerPass(Residual Output, Routing? Routing, ExpertsAgain? Experts);

using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>What a router decides by its logits alone, before any limit on an expert's share; on the graph, in one pass forward and one back.</summary>
/// <remarks>Shapes: T tokens in G segments, E experts, k choices. Logits [T, E] are float32 or float64, as are all results that carry a gradient.</remarks>
internal sealed class RouterChoice : Function
{
    // As in DeepSeek-V3: keeps a token whose sigmoid scores all underflow from dividing by 0.
    private const double Tiny = 1e-20;

    private readonly Tensor _bias;
    private readonly RouterRule _rule;
    private readonly RoutingDecision? _decided;
    private Tensor? _logits;
    private Tensor? _savedIds;

    private RouterChoice(Tensor bias, RouterRule rule, RoutingDecision? decided) => (_bias, _rule, _decided) = (bias, rule, decided);

    /// <summary>[T, k] int64, the best first; of equal biased scores the lower id.</summary>
    internal Tensor Ids { get; private set; } = null!;

    /// <summary>[T, k], on the graph.</summary>
    internal Tensor Weights { get; private set; } = null!;

    /// <summary>[T, k]: scores of the chosen, without history.</summary>
    internal Tensor Chosen { get; private set; } = null!;

    /// <summary>[G, E] int64: choices of each segment that fell on each expert.</summary>
    internal Tensor Counts { get; private set; } = null!;

    /// <summary>[G, E], on the graph: sums of the scores, each token's divided by their sum.</summary>
    internal Tensor ScoreSums { get; private set; } = null!;

    /// <summary>A scalar, on the graph: the sum over all tokens.</summary>
    internal Tensor SquaredLogSumExp { get; private set; } = null!;

    /// <summary>Chooses.</summary>
    /// <param name="logits">[T, E].</param>
    /// <param name="bias">[E] float32, added to the scores for the selection.</param>
    /// <param name="segments">G; divides T.</param>
    /// <param name="options">How scores become choices and weights.</param>
    /// <param name="decided">What was chosen by the same logits before: it stands, and only becomes part of the graph behind these.</param>
    internal static RouterChoice Of(Tensor logits, Tensor bias, long segments, MoeOptions options, RoutingDecision? decided = null)
    {
        var choice = new RouterChoice(bias, RuleOf(segments, options), decided);
        var results = choice.Apply(logits);
        (choice.Weights, choice.ScoreSums, choice.SquaredLogSumExp) = (results[0], results[1], results[2]);
        return choice;
    }

    /// <summary>Weights, sums of scores and sum of squares by recorded operators: the oracle of the tests.</summary>
    /// <param name="logits">[T, E].</param>
    /// <param name="bias">[E].</param>
    /// <param name="segments">G, at least 1.</param>
    /// <param name="options">How scores become choices and weights.</param>
    internal static (Tensor Ids, Tensor Weights, Tensor ScoreSums, Tensor SquaredLogSumExp) Reference(
        Tensor logits, Tensor bias, long segments, MoeOptions options)
    {
        var scores = options.Score == RouterScore.Softmax ? logits.Softmax(-1) : logits.Sigmoid();
        var ids = (scores.Detach() + bias.To(scores.DType)).ArgSort(-1, descending: true).Narrow(1, 0, options.TopK).Contiguous();
        var chosen = scores.Gather(1, ids);
        var weights = (options.NormalizeWeights ? chosen / chosen.Sum(-1, keep: true).Add(Tiny) : chosen) * options.RoutedScale;
        var shares = options.Score == RouterScore.Softmax ? scores : scores / scores.Sum(-1, keep: true).Add(Tiny);
        var squares = logits.LogSumExp(-1);
        return (ids, weights, shares.View(segments, logits.Size(0) / segments, options.Experts).Sum(1), (squares * squares).Sum());
    }

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        var logits = inputs[0].Contiguous();
        if (_decided is { } decided)
        {
            (_logits, _savedIds) = (Save(logits), Save(decided.Ids));
            return [decided.Weights.Detach(), decided.ScoreSums.Detach(), decided.SquaredLogSumExp.Detach()];
        }

        var chosen = RouterRows.Choose(logits, _bias, _rule);
        (Ids, Chosen, Counts) = (chosen.Ids, chosen.Chosen, chosen.Counts);
        (_logits, _savedIds) = (Save(logits), Save(chosen.Ids));
        return [chosen.Weights, chosen.ScoreSums, chosen.SquaredLogSumExp];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients) =>
    [
        RouterRows.Backward(
            _logits!, _savedIds!, _rule, outputGradients[0]?.Contiguous(), outputGradients[1]?.Contiguous(), outputGradients[2]?.Contiguous()),
    ];

    private static RouterRule RuleOf(long segments, MoeOptions options) =>
        new(segments, options.TopK, options.Score == RouterScore.Sigmoid, options.NormalizeWeights, options.RoutedScale);
}

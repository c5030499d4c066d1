namespace Moe.Training.Configuration;

/// <summary>Section <c>model.moe</c>: fine-grained routed experts with optional shared ones (DeepSeekMoE, https://arxiv.org/abs/2401.06066).</summary>
public sealed record MoeConfig
{
    [Setting("Routed experts in each layer, over all ranks.", AtLeast = 1, AtMost = 65536)]
    public int Experts { get; init; } = 16;

    [Setting("Experts that each token goes to.", AtLeast = 1, AtMost = 65536)]
    public int TopK { get; init; } = 2;

    [Setting("Hidden width of one expert's SwiGLU.", AtLeast = 1, AtMost = 1048576)]
    public int ExpertWidth { get; init; } = 256;

    [Setting("Experts of the same width that every token passes, unrouted.", AtLeast = 0, AtMost = 1024)]
    public int SharedExperts { get; init; }

    [Setting("What turns the router's logits into scores: `softmax` over all experts, or `sigmoid` of each.")]
    public RouterScore Score { get; init; } = RouterScore.Softmax;

    [Setting("Whether a token's chosen scores are divided by their sum.")]
    public bool NormalizeWeights { get; init; } = true;

    [Setting("Factor on the routed experts' output.", Above = 0)]
    public double RoutedScale { get; init; } = 1.0;

    [Setting("An expert takes at most ceil(factor * tokens * top_k / experts) rows of a micro-batch and drops the rest; null drops none.",
        Above = 0, Default = "null (dropless)")]
    public double? CapacityFactor { get; init; }

    [Setting("Which rows stay in a full expert: those with the highest `score`, or the first by `position`.", When = "model.moe.capacity_factor")]
    public DropPolicy DropPolicy { get; init; } = DropPolicy.Score;
}

/// <summary>Values of <c>model.moe.score</c>.</summary>
public enum RouterScore
{
    /// <summary>Scores compete: they sum to 1 over the experts.</summary>
    Softmax,

    /// <summary>Each expert's score stands for itself, in (0, 1).</summary>
    Sigmoid,
}

/// <summary>Values of <c>model.moe.drop_policy</c>.</summary>
public enum DropPolicy
{
    /// <summary>The lowest scores are dropped.</summary>
    Score,

    /// <summary>The latest tokens are dropped.</summary>
    Position,
}

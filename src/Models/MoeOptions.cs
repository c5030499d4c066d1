namespace Moe.Models;

/// <summary>What turns a router's logits into scores.</summary>
public enum RouterScore
{
    /// <summary>Scores compete: they sum to 1 over all experts.</summary>
    Softmax,

    /// <summary>Each expert's score stands for itself, in (0, 1): DeepSeek-V3, https://arxiv.org/abs/2412.19437.</summary>
    Sigmoid,
}

/// <summary>Which token-expert pairs a full expert drops.</summary>
public enum DropPolicy
{
    /// <summary>Those with the lowest scores; of equal ones, to 1/4096, the later token's.</summary>
    Score,

    /// <summary>Those of the latest tokens.</summary>
    Position,
}

/// <summary>Experts and router of a mixture-of-experts layer (DeepSeekMoE, https://arxiv.org/abs/2401.06066).</summary>
public sealed record MoeOptions
{
    /// <summary>Routed experts over all ranks (E).</summary>
    public required int Experts { get; init; }

    /// <summary>Experts that each token goes to (k).</summary>
    public required int TopK { get; init; }

    /// <summary>Hidden width of one expert's SwiGLU (F).</summary>
    public required int ExpertWidth { get; init; }

    /// <summary>Experts of the same width that every token passes unrouted; together they are one SwiGLU.</summary>
    public int SharedExperts { get; init; }

    /// <summary>What turns logits into scores.</summary>
    public RouterScore Score { get; init; } = RouterScore.Softmax;

    /// <summary>Whether a token's chosen scores are divided by their sum.</summary>
    public bool NormalizeWeights { get; init; } = true;

    /// <summary>Factor on the routed experts' output.</summary>
    public double RoutedScale { get; init; } = 1;

    /// <summary>An expert takes at most ceil(factor * T k / E) pairs of a segment of T tokens; null is dropless.</summary>
    public double? CapacityFactor { get; init; }

    /// <summary>Which pairs a full expert drops.</summary>
    public DropPolicy DropPolicy { get; init; } = DropPolicy.Score;
}

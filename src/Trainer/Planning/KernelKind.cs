namespace Moe.Training.Planning;

/// <summary>Kernels that are bound by memory, by the names that device records give rates for. Each counts forward and backward together.</summary>
internal static class KernelKind
{
    /// <summary>An element of the rows that are summed and normed.</summary>
    public const string Norm = "norm";

    /// <summary>An element of the experts' activation.</summary>
    public const string SwiGlu = "swiglu";

    /// <summary>An operation of the products in the experts' SwiGLUs, where these are one kernel; where no rate was measured, those of products and activation hold.</summary>
    public const string Experts = "experts";

    /// <summary>A score: a token's for one expert.</summary>
    public const string Router = "router";

    /// <summary>An element of the rows that are dispatched and combined.</summary>
    public const string Permute = "permute";

    /// <summary>An element of the rows that are packed for other ranks, and unpacked.</summary>
    public const string Regroup = "regroup";

    /// <summary>An element of the looked-up embeddings.</summary>
    public const string Embedding = "embedding";

    /// <summary>A logit.</summary>
    public const string CrossEntropy = "cross_entropy";

    /// <summary>A weight whose gradient is cleared, added to, scaled, measured and clipped.</summary>
    public const string Gradient = "gradient";

    /// <summary>An operation of Newton-Schulz's products; where no rate was measured, those of products hold.</summary>
    public const string NewtonSchulz = "newton_schulz";

    /// <summary>A weight that is stepped, by the optimizer's name.</summary>
    public static string Optimizer(string name) => $"optimizer_{name}";
}

namespace Moe.Training.Configuration;

/// <summary>Section <c>balance</c>. The loss is <c>E * sum_i f_i P_i</c>, 1 when every expert has the same load; see docs/balancing.md.</summary>
public sealed record BalanceConfig
{
    [Setting("Tokens over which the load f is counted: `none` (no loss), a `micro`-batch of one rank, each `sequence`, or the `global` batch of all ranks.")]
    public BalanceScope Scope { get; init; } = BalanceScope.Global;

    [Setting("How a global batch of several micro-batches is counted: `running` sums those seen so far; `exact` counts all before the first backward, at the price of another forward.",
        When = "balance.scope=global")]
    public BalanceAccumulation Accumulation { get; init; } = BalanceAccumulation.Running;

    [Setting("Weight of the balancing loss beside the language model's.", AtLeast = 0, When = "balance.scope=micro|sequence|global")]
    public double Coefficient { get; init; } = 0.01;

    [Setting("Weight of the router z-loss, the mean of logsumexp(logits)^2; 0 is off.", AtLeast = 0)]
    public double ZLoss { get; init; }

    [Setting("Step u of the loss-free bias on the choice of experts, once a step (https://arxiv.org/abs/2408.15664; 0.001 there); 0 is off.", AtLeast = 0, AtMost = 1)]
    public double BiasRate { get; init; }
}

/// <summary>Values of <c>balance.scope</c>.</summary>
public enum BalanceScope
{
    /// <summary>No balancing loss.</summary>
    None,

    /// <summary>The load of one rank's micro-batch.</summary>
    Micro,

    /// <summary>The load of each sequence by itself.</summary>
    Sequence,

    /// <summary>The load of all ranks' tokens of a step (https://arxiv.org/abs/2501.11873).</summary>
    Global,
}

/// <summary>Values of <c>balance.accumulation</c>.</summary>
public enum BalanceAccumulation
{
    /// <summary>Micro-batch m sees the counts of micro-batches 1 to m.</summary>
    Running,

    /// <summary>Every micro-batch sees the counts of the whole global batch.</summary>
    Exact,
}

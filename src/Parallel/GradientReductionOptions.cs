using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Settings of <see cref="GradientReduction"/>; the same on all ranks.</summary>
/// <param name="Shard">
/// Whether a rank gets the sums of, and steps, only what it owns (ZeRO-1, https://arxiv.org/abs/1910.02054), and takes the rest of the weights
/// from their owners. Otherwise every rank gets all sums and steps all that it holds.
/// </param>
/// <param name="ByLayer">Whether a bucket ends with its layer: for an optimizer that freezes layers, whose buckets then need no communication.</param>
/// <param name="Cost">What it costs to step a stored parameter, above 0; by this the ranks' shares are alike. Null for its elements.</param>
/// <param name="Direct">
/// Whether the gradient of a parameter that no other rank holds stays where, and of the type that, backward has left it, and is scaled by the optimizer
/// (<see cref="LogicalParameter.GradientScale"/>): for optimizers that look for it at each step anew, and not for several backwards a step
/// into bfloat16, whose sums would lose bits.
/// </param>
/// <param name="BucketBytes">A bucket ends before it would exceed this; a larger parameter has one of its own.</param>
public sealed record GradientReductionOptions(
    bool Shard = false,
    bool ByLayer = false,
    Func<Parameter, double>? Cost = null,
    bool Direct = false,
    long BucketBytes = GradientReductionOptions.DefaultBucketBytes)
{
    /// <summary>For transports through host memory: below a megabyte the start of a collective counts; far above, the first one begins late.</summary>
    public const long DefaultBucketBytes = 4 << 20;

    /// <summary>Whether experts that no other rank holds are to be stepped within backward (<see cref="GradientReduction.StepInBackward"/>); asks for <see cref="Direct"/>.</summary>
    public bool StepExpertsInBackward { get; init; }
}

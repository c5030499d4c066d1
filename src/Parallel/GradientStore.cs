using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Where the gradients of some parameters stand between backward and the optimizer's step.</summary>
/// <param name="plan">Which parameters, and who adds up their gradients.</param>
internal abstract class GradientStore(GradientBucketPlan plan) : IDisposable
{
    public ProcessGroup Group => plan.Group;

    /// <summary>All that is stepped by these gradients.</summary>
    public abstract IReadOnlyList<LogicalParameter> Logical { get; }

    /// <summary>What of <see cref="Logical"/> this rank owns.</summary>
    public abstract IReadOnlyList<LogicalParameter> Owned { get; }

    /// <summary>Bytes of the gradients as they now stand.</summary>
    public abstract long Bytes { get; }

    /// <summary>Whether none of the parameters takes a gradient in this step; the same on all ranks.</summary>
    public bool IsFrozen => plan.Parameters.All(parameter => !parameter.Value.RequiresGrad);

    /// <inheritdoc cref="GradientBucketPlan.IsWholeBehind"/>
    public bool IsWholeBehind(int layer) => plan.IsWholeBehind(layer);

    /// <summary>Makes ready for a step's first backward: gradients count from zero.</summary>
    public abstract void Zero();

    /// <summary>After the last backward: what of it stands elsewhere takes its place here, and starts the sum over the ranks where there is one.</summary>
    /// <param name="shard">Whether a rank gets only the sums of what it owns.</param>
    public abstract Work? Reduce(bool shard);

    /// <summary>Multiplies what <see cref="Reduce"/> has left; gradients that another rank steps may be left out.</summary>
    /// <param name="factor">Any number.</param>
    /// <param name="shard">As in <see cref="Reduce"/>.</param>
    public abstract void Scale(double factor, bool shard);

    /// <summary>Starts to send every rank's new weights to the others. The gradients are lost: their memory carries the weights.</summary>
    /// <returns>To be called when all stores have started; waits, and puts the weights in their places.</returns>
    public abstract Action StartSharing();

    public abstract void Dispose();
}

using Moe.Torch;

namespace Moe.Distributed;

/// <summary>What one bucket of a <see cref="GradientReduction"/> holds, and which part of it each rank owns.</summary>
/// <param name="Parameters">In the order in which they stand in the bucket: by their owners.</param>
/// <param name="Type">Of the sums: float32 or float64.</param>
/// <param name="Group">Adds up the gradients.</param>
/// <param name="Segments">Elements that each rank of <paramref name="Group"/> owns.</param>
public sealed record GradientBucketPlan(IReadOnlyList<Parameter> Parameters, DType Type, ProcessGroup Group, IReadOnlyList<long> Segments)
{
    // Backward comes to the embedding last, and to the head with it where both are one.
    private readonly int _lowestLayer = Parameters.Min(parameter => parameter.Layer ?? (parameter.Kind == ParameterKind.Embedding ? -1 : int.MaxValue));

    /// <summary>Whether it is no bucket, but one parameter's gradient where backward leaves it; then <see cref="Type"/> is the parameter's.</summary>
    public bool IsDirect { get; private init; }

    /// <summary>Whether the parameter may be stepped within backward, which then keeps its gradient nowhere.</summary>
    public bool IsSteppedInBackward { get; private init; }

    /// <summary>Elements of all parameters.</summary>
    public long Count => Parameters.Sum(parameter => parameter.Value.Count);

    /// <summary>Whether all its gradients are whole once backward has left a layer.</summary>
    /// <param name="layer">As for <see cref="GradientReduction.LayerLeft"/>.</param>
    public bool IsWholeBehind(int layer) => _lowestLayer >= layer;

    internal static GradientBucketPlan Direct(Parameter parameter, ParameterPlacement placement, bool isSteppedInBackward) =>
        new([parameter], parameter.Value.DType, placement.ReduceGroup(parameter), [parameter.Value.Count])
        {
            IsDirect = true,
            IsSteppedInBackward = isSteppedInBackward,
        };

    internal static GradientBucketPlan Of(IReadOnlyList<Parameter> part, ParameterPlacement placement, ParameterOwners owners)
    {
        var group = placement.ReduceGroup(part[0]);
        Parameter[] ordered = [.. part.OrderBy(parameter => owners.Of(parameter)[0])];
        var segments = new long[group.Size];
        foreach (var parameter in ordered)
        {
            var blocks = owners.Of(parameter);
            foreach (var owner in blocks)
            {
                segments[owner] += parameter.Value.Count / blocks.Count;
            }
        }

        return new GradientBucketPlan(ordered, BucketPlan.SumType(part[0]), group, segments);
    }
}

using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Which parameters stand in one bucket.</summary>
internal static class BucketPlan
{
    /// <summary>Cuts a model's parameters into buckets of one group and one type each.</summary>
    /// <param name="parameters">In the same order on all ranks.</param>
    /// <param name="placement">Says who adds up what.</param>
    /// <param name="options">How large a bucket may be, and whether it ends with its layer.</param>
    public static IEnumerable<IReadOnlyList<Parameter>> Cut(
        IReadOnlyList<Parameter> parameters, ParameterPlacement placement, GradientReductionOptions options) =>
        from parameter in parameters
        group parameter by (Group: placement.ReduceGroup(parameter), Type: SumType(parameter), Unit: options.ByLayer ? FreezingUnit(parameter) : default) into alike
        from part in Cut(alike, options.BucketBytes / alike.Key.Type.Size(), isOwnedInParts: alike.Key.Group.Size > 1)
        select part;

    /// <summary>Type of a gradient's sum.</summary>
    public static DType SumType(Parameter parameter) => parameter.Value.DType == DType.Float64 ? DType.Float64 : DType.Float32;

    // What an optimizer freezes together: a layer, or what stands outside of all layers each by itself.
    private static (int? Layer, ParameterKind? Kind) FreezingUnit(Parameter parameter) =>
        parameter.Layer is null ? (null, parameter.Kind) : (parameter.Layer, null);

    // A stack that several ranks own parts of stands alone: what a rank owns of a bucket must be contiguous.
    private static IEnumerable<List<Parameter>> Cut(IEnumerable<Parameter> parameters, long mostElements, bool isOwnedInParts)
    {
        var part = new List<Parameter>();
        var elements = 0L;
        foreach (var parameter in parameters)
        {
            var standsAlone = isOwnedInParts && parameter.ExpertIds is not null;
            if (part.Count > 0 && (standsAlone || elements + parameter.Value.Count > mostElements))
            {
                yield return part;
                (part, elements) = ([], 0);
            }

            part.Add(parameter);
            elements += parameter.Value.Count;
        }

        if (part.Count > 0)
        {
            yield return part;
        }
    }
}

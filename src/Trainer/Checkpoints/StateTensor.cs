using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training.Checkpoints;

/// <summary>A logical tensor of the run's state as this rank holds it: a weight, an optimizer's moment, a router's bias.</summary>
/// <param name="Key">The same on every mesh.</param>
/// <param name="Value">A view into what the rank stores; loading writes through it.</param>
/// <param name="Written">Whether this rank is the one that writes it; exactly one rank is.</param>
public readonly record struct StateTensor(string Key, Tensor Value, bool Written)
{
    /// <summary>The weights, each written by its owner.</summary>
    /// <param name="owners">Of the parameters; null where nothing is written.</param>
    /// <param name="parameters">As this rank stores them.</param>
    public static IEnumerable<StateTensor> Of(ParameterOwners? owners, IEnumerable<Parameter> parameters) =>
        from parameter in parameters
        from place in parameter.Logical(parameter.Value).Zip(owners?.Owns(parameter) ?? parameter.Keys.Select(_ => false))
        select new StateTensor(place.First.Key, place.First.Value, place.Second);
}

using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training.Checkpoints;

/// <summary>A logical tensor of the run's state as this rank holds it: a weight, an optimizer's moment, a router's bias.</summary>
/// <param name="Key">The same on every mesh.</param>
/// <param name="Value">A view into what the rank stores; loading writes through it.</param>
/// <param name="Written">Whether this rank is the one that writes it; exactly one rank is.</param>
public readonly record struct StateTensor(string Key, Tensor Value, bool Written)
{
    /// <summary>The weights, spread for writing over the ranks that hold them.</summary>
    /// <param name="mesh">Decides who writes: dense tensors go round all ranks, an expert's round its replicas.</param>
    /// <param name="parameters">As this rank stores them.</param>
    public static IEnumerable<StateTensor> Of(DeviceMesh mesh, IEnumerable<Parameter> parameters)
    {
        var dense = 0;
        foreach (var parameter in parameters)
        {
            var place = 0;
            foreach (var logical in parameter.Logical(parameter.Value))
            {
                // Every rank counts the same dense tensors in the same order; the experts' count is the same within a replica group.
                var written = parameter.ExpertIds is null
                    ? dense++ % mesh.World.Size == mesh.World.Rank
                    : place++ % mesh.Replica.Size == mesh.ReplicaRank;
                yield return new StateTensor(logical.Key, logical.Value, written);
            }
        }
    }
}

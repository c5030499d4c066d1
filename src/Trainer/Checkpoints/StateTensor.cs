using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training.Checkpoints;

/// <summary>A logical tensor of the run's state as this rank holds it: a weight, an optimizer's moment, a router's bias.</summary>
/// <param name="Key">The same on every mesh.</param>
/// <param name="Value">A view into what the rank stores; loading writes through it.</param>
/// <param name="Written">Whether this rank is the one that writes it; exactly one rank is.</param>
public readonly record struct StateTensor(string Key, Tensor Value, bool Written)
{
    /// <summary>The logical tensors within stored ones, spread for writing over the ranks that hold them.</summary>
    /// <param name="mesh">Decides who writes: dense tensors go round all ranks, an expert's round its replicas.</param>
    /// <param name="stored">A parameter's record, and a tensor of that parameter's shape with the prefix of its keys.</param>
    public static IEnumerable<StateTensor> Of(DeviceMesh mesh, IEnumerable<(string Prefix, Parameter Parameter, Tensor Stored)> stored)
    {
        var dense = 0;
        foreach (var (prefix, parameter, tensor) in stored)
        {
            var place = 0;
            foreach (var logical in parameter.Logical(tensor))
            {
                // Every rank counts the same dense tensors in the same order; the experts' count is the same within a replica group.
                var written = parameter.ExpertIds is null
                    ? dense++ % mesh.World.Size == mesh.World.Rank
                    : place++ % mesh.Replica.Size == mesh.ReplicaRank;
                yield return new StateTensor(prefix + logical.Key, logical.Value, written);
            }
        }
    }
}

using Moe.Torch;

namespace Moe.Distributed;

/// <summary>What a parameter's record means on a mesh: the one place that says whose gradients are added, and who counts them in the norm.</summary>
/// <param name="mesh">The ranks.</param>
public sealed class ParameterPlacement(DeviceMesh mesh)
{
    /// <summary>
    /// The ranks that hold the parameter and add up its gradient: all of them, or for experts those with the same expert coordinate. An
    /// expert has seen the tokens of all ranks of its replica already.
    /// </summary>
    public ProcessGroup ReduceGroup(Parameter parameter) => parameter.ExpertIds is null ? mesh.Gradients : mesh.Replica;

    /// <summary>Whether this rank, of all that hold the parameter, counts its gradient in sums over <see cref="NormGroup"/>: the first of <see cref="ReduceGroup"/>.</summary>
    public bool CountsNorm(Parameter parameter) => ReduceGroup(parameter).Rank == 0;

    /// <summary>The ranks that hold all parameters between them.</summary>
    public ProcessGroup NormGroup => mesh.Gradients;
}

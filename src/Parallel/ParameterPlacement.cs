using Moe.Torch;

namespace Moe.Distributed;

/// <summary>What a parameter's record means on a mesh: the one place that says whose gradients are added. Who of these ranks owns it is up to <see cref="ParameterOwners"/>.</summary>
/// <param name="mesh">The ranks.</param>
public sealed class ParameterPlacement(DeviceMesh mesh)
{
    /// <summary>
    /// The ranks that hold the parameter and add up its gradient: all of them, or for experts those with the same expert coordinate. An
    /// expert has seen the tokens of all ranks of its replica already.
    /// </summary>
    public ProcessGroup ReduceGroup(Parameter parameter) => parameter.ExpertIds is null ? mesh.Gradients : mesh.Replica;

    /// <summary>The ranks that hold all parameters between them.</summary>
    public ProcessGroup NormGroup => mesh.Gradients;
}

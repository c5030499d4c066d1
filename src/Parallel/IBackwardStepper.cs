using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Distributed;

/// <summary>Steps parameters within a step's only backward, each as soon as its gradient is there.</summary>
public interface IBackwardStepper
{
    /// <summary>Tells, once in a backward, that these parameters will be stepped in it.</summary>
    /// <param name="parameter">As it is stored.</param>
    /// <param name="logical">All that stands in it, in order; what their gradients are to be multiplied with is known.</param>
    /// <returns>The update as a product may make it; null where <see cref="Step"/> is to be called.</returns>
    public StackedUpdate? Begin(Parameter parameter, IReadOnlyList<LogicalParameter> logical);

    /// <summary>Steps them.</summary>
    /// <param name="logical">With their gradients.</param>
    /// <param name="isIdle">Whether no token of the step chose a parameter's expert.</param>
    public void Step(IReadOnlyList<LogicalParameter> logical, Func<LogicalParameter, bool> isIdle);
}

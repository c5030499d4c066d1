using Moe.Distributed;
using Moe.Optimizers;
using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Training;

/// <summary>A step's optimizer within its backward.</summary>
/// <param name="optimizer">Of the whole model.</param>
/// <param name="step">What is known of the step.</param>
internal sealed class BackwardStepper(Optimizer optimizer, OptimizerStep step) : IBackwardStepper
{
    /// <inheritdoc/>
    public StackedUpdate? Begin(Parameter parameter, IReadOnlyList<LogicalParameter> logical)
    {
        var update = optimizer.BeginEarly(parameter, logical, step);
        return optimizer.ScalesGradients ? update : null; // else gradients are multiplied, and rounded, before all that step by them
    }

    /// <inheritdoc/>
    public void Step(IReadOnlyList<LogicalParameter> logical, Func<LogicalParameter, bool> isIdle)
    {
        using var span = Spans.OpenBackward("optimizer");
        if (!optimizer.ScalesGradients)
        {
            foreach (var parameter in logical.Where(parameter => parameter.GradientScale != 1))
            {
                parameter.Gradient.Multiply_(parameter.GradientScale);
                parameter.GradientScale = 1;
            }
        }

        optimizer.StepEarly(logical, step with { IsIdle = isIdle });
    }
}

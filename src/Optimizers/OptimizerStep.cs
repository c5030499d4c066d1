using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>What all optimizers of a step are told; the same on every rank.</summary>
/// <param name="LearningRate">Of this step, at least 0.</param>
/// <param name="GradientNorm">Euclidean norm of the gradients of the whole model, as they now stand (after clipping); finite.</param>
/// <param name="Loss">Nats per token, mean over the global batch.</param>
/// <param name="IsIdle">Whether no token of the whole step, on any rank, chose the parameter's expert; null where nothing is idle.</param>
/// <param name="IsFrozen">Whether the parameter is left alone in this step (<see cref="Optimizer.Freezes"/>), whichever optimizer has it; null where none is.</param>
public sealed record OptimizerStep(
    double LearningRate,
    double GradientNorm = 0,
    double Loss = 0,
    Func<LogicalParameter, bool>? IsIdle = null,
    Func<LogicalParameter, bool>? IsFrozen = null);

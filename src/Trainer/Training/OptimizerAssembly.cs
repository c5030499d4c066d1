using Moe.Distributed;
using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>From the configuration's section <c>optimizer</c> to the optimizer, which knows nothing of configurations.</summary>
internal static class OptimizerAssembly
{
    /// <summary>The optimizer that the configuration names; another one is one more line here.</summary>
    /// <param name="config">Checked.</param>
    /// <param name="parameters">What it steps.</param>
    public static Optimizer Build(OptimizerConfig config, IReadOnlyList<LogicalParameter> parameters) => config.Name switch
    {
        OptimizerName.AdamW => new AdamW(parameters, AdamW(config)),
        OptimizerName.Sgd => new Sgd(parameters, Sgd(config)),
        _ => throw new ArgumentOutOfRangeException(nameof(config), config.Name, "an optimizer without a class"),
    };

    /// <summary>How the steps are shared out among the ranks.</summary>
    /// <param name="config">Checked.</param>
    public static GradientReductionOptions Reduction(RunConfig config) => new(config.Parallel.ShardOptimizer);

    private static AdamWOptions AdamW(OptimizerConfig config) =>
        new(config.Beta1, config.Beta2, config.Epsilon ?? 1e-8, config.WeightDecay, config.Decay, config.Amsgrad, Idle: config.Idle);

    private static SgdOptions Sgd(OptimizerConfig config) =>
        new(config.Momentum ?? 0.9, config.Dampening, config.Nesterov, config.WeightDecay, config.Decay, Idle: config.Idle);
}

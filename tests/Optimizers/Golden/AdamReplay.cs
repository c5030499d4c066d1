using Moe.Optimizers;
using Moe.Torch;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>PyTorch's AdamW, and its Adam, whose decay is coupled.</summary>
public sealed class AdamReplay : OptimizerReplay
{
    public override bool Understands(GoldenFile file) => IsDecoupled(file) || file.Source.Contains("torch/optim/adam.py", StringComparison.Ordinal);

    protected override (Optimizer Optimizer, double LearningRate) Build(GoldenFile file, HyperReader hyper, LogicalParameter[] parameters)
    {
        var (beta1, beta2) = hyper.Pair("betas", 0.9, 0.999);
        var decoupled = IsDecoupled(file) || hyper.Flag("decoupled_weight_decay", false);
        var options = new AdamWOptions(
            beta1,
            beta2,
            hyper.Number("eps", 1e-8),
            hyper.Number("weight_decay", IsDecoupled(file) ? 1e-2 : 0),
            decoupled ? DecayForm.Decoupled : DecayForm.Coupled,
            hyper.Flag("amsgrad", false),
            hyper.Flag("maximize", false));
        hyper.PassOver("foreach", "fused", "capturable", "differentiable");
        return (new AdamW(parameters, options), hyper.Number("lr", 1e-3));
    }

    private static bool IsDecoupled(GoldenFile file) => file.Source.Contains("torch/optim/adamw.py", StringComparison.Ordinal);
}

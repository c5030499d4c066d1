using Moe.Optimizers;
using Moe.Torch;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>PyTorch's SGD, whose decay is coupled.</summary>
public sealed class SgdReplay : OptimizerReplay
{
    public override bool Understands(GoldenFile file) => file.Source.Contains("torch/optim/sgd.py", StringComparison.Ordinal);

    protected override (Optimizer Optimizer, double LearningRate) Build(GoldenFile file, HyperReader hyper, LogicalParameter[] parameters)
    {
        var options = new SgdOptions(
            hyper.Number("momentum", 0),
            hyper.Number("dampening", 0),
            hyper.Flag("nesterov", false),
            hyper.Number("weight_decay", 0),
            DecayForm.Coupled,
            hyper.Flag("maximize", false));
        hyper.PassOver("foreach", "fused", "differentiable");
        return (new Sgd(parameters, options), hyper.Number("lr", 1e-3));
    }
}

using Moe.Optimizers;
using Moe.Torch;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>The authors' package of AdaBelief.</summary>
public sealed class AdaBeliefReplay : OptimizerReplay
{
    public override bool Understands(GoldenFile file) => file.Source.Contains("adabelief_pytorch/AdaBelief.py", StringComparison.Ordinal);

    protected override (Optimizer Optimizer, double LearningRate) Build(GoldenFile file, HyperReader hyper, LogicalParameter[] parameters)
    {
        var (beta1, beta2) = hyper.Pair("betas", 0.9, 0.999);
        var (decoupled, isFixed) = (hyper.Flag("weight_decouple", true), hyper.Flag("fixed_decay", false));
        var options = new AdaBeliefOptions(
            beta1,
            beta2,
            hyper.Number("eps", 1e-16),
            hyper.Number("weight_decay", 0),
            !decoupled ? DecayForm.Coupled : isFixed ? DecayForm.Fixed : DecayForm.Decoupled,
            hyper.Flag("amsgrad", false),
            hyper.Flag("rectify", true),
            hyper.Flag("degenerated_to_sgd", true));
        hyper.PassOver("print_change_log");
        return (new AdaBelief(parameters, options), hyper.Number("lr", 1e-3));
    }
}

using Moe.Optimizers;
using Moe.Torch;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>timm's LARS, and Apex's LARC around PyTorch's SGD.</summary>
public sealed class LarsReplay : OptimizerReplay
{
    public override bool Understands(GoldenFile file) => IsLarc(file) || file.Source.Contains("timm/optim/lars.py", StringComparison.Ordinal);

    protected override (Optimizer Optimizer, double LearningRate) Build(GoldenFile file, HyperReader hyper, LogicalParameter[] parameters) => IsLarc(file)
        ? Larc(hyper.Section("larc"), hyper.Section("sgd"), parameters)
        : (new Lars(parameters, Timm(hyper)), hyper.Number("lr", 1));

    private static LarsOptions Timm(HyperReader hyper) => Descent(hyper) with
    {
        TrustCoefficient = hyper.Number("trust_coeff", 1e-3),
        Epsilon = hyper.Number("eps", 1e-8),
        TrustClip = hyper.Flag("trust_clip", false),
        AlwaysAdapt = hyper.Flag("always_adapt", false),
    };

    private static (Optimizer Optimizer, double LearningRate) Larc(HyperReader larc, HyperReader sgd, LogicalParameter[] parameters)
    {
        var options = Descent(sgd) with
        {
            TrustCoefficient = larc.Number("trust_coefficient", 0.02),
            Epsilon = larc.Number("eps", 1e-8),
            TrustClip = larc.Flag("clip", true),
            AlwaysAdapt = true,
            DecayWithoutGradient = false,
        };
        return (new Lars(parameters, options), sgd.Number("lr", 1e-3));
    }

    private static LarsOptions Descent(HyperReader hyper) => new(
        hyper.Number("momentum", 0), hyper.Number("dampening", 0), hyper.Flag("nesterov", false), hyper.Number("weight_decay", 0));

    private static bool IsLarc(GoldenFile file) => file.Source.Contains("parallel/LARC.py", StringComparison.Ordinal);
}

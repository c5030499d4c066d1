using Moe.Optimizers;
using Moe.Torch;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>timm's LAMB, Apex's fused kernel, and the reference of Apex's own tests, which always adapts.</summary>
public class LambReplay : OptimizerReplay
{
    public override bool Understands(GoldenFile file) =>
        IsReference(file) || Comes(file, "timm/optim/lamb.py") || Comes(file, "csrc/multi_tensor_lamb.cu") || Comes(file, "optimizers/fused_lamb.py");

    protected override (Optimizer Optimizer, double LearningRate) Build(GoldenFile file, HyperReader hyper, LogicalParameter[] parameters) =>
        (new Lamb(parameters, Options(file, hyper)), hyper.Number("lr", 1e-3));

    private static LambOptions Options(GoldenFile file, HyperReader hyper)
    {
        var (beta1, beta2) = hyper.Pair("betas", 0.9, 0.999);
        hyper.AssertOff("caution", "corrected_weight_decay", "amsgrad");
        hyper.PassOver("foreach", "set_grad_none");
        return new LambOptions(
            beta1,
            beta2,
            hyper.Number("eps", 1e-6),
            hyper.Number("weight_decay", 0.01),
            Decay(hyper),
            hyper.Flag("bias_correction", true),
            hyper.Flag("grad_averaging", true),
            hyper.NumberOrNull("max_grad_norm", 1),
            hyper.Flag("trust_clip", false),
            hyper.Flag(hyper.Has("use_nvlamb") ? "use_nvlamb" : "always_adapt", IsReference(file)));
    }

    private static LambDecay Decay(HyperReader hyper)
    {
        var inDirection = hyper.Flag("adam_w_mode", true);
        var onWeights = hyper.Flag("decoupled_decay", false);
        return onWeights ? LambDecay.Weights : inDirection ? LambDecay.Direction : LambDecay.Gradient;
    }

    private static bool IsReference(GoldenFile file) => Comes(file, "RefLAMB");

    private static bool Comes(GoldenFile file, string from) => file.Source.Contains(from, StringComparison.Ordinal);
}

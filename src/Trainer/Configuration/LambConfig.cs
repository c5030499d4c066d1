using Moe.Optimizers;

namespace Moe.Training.Configuration;

/// <summary>Section <c>optimizer.lamb</c> (https://arxiv.org/abs/1904.00962).</summary>
public sealed record LambConfig
{
    private const string Chosen = "optimizer.name=lamb";

    [Setting("Gradients of the whole model are scaled to this norm where theirs is larger; null takes them as they are. Acts after `train.clip_norm`.",
        Above = 0, When = Chosen)]
    public double? MaxGradientNorm { get; init; } = 1;

    [Setting("Where the decay acts: in the direction (`direction`), on the gradient before the moments (`gradient`), "
        + "or on the weights times the learning rate (`weights`).", When = Chosen)]
    public LambDecay Decay { get; init; } = LambDecay.Direction;

    [Setting("Whether both running means are corrected for starting at 0.", When = Chosen)]
    public bool BiasCorrection { get; init; } = true;

    [Setting("Whether a new gradient enters its running mean with 1 - beta1; else with 1.", When = Chosen)]
    public bool GradientAveraging { get; init; } = true;

    [Setting("Whether trust ratios stop at 1.", When = Chosen)]
    public bool TrustClip { get; init; }

    [Setting("Whether parameters without decay have a trust ratio too; else theirs is 1.", When = Chosen)]
    public bool AlwaysAdapt { get; init; }
}

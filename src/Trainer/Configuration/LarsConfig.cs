namespace Moe.Training.Configuration;

/// <summary>Section <c>optimizer.lars</c> (https://arxiv.org/abs/1708.03888).</summary>
public sealed record LarsConfig
{
    private const string Chosen = "optimizer.name=lars";

    [Setting("Length of a scaled gradient as a share of its weights' norm.", Above = 0, When = Chosen)]
    public double TrustCoefficient { get; init; } = 1e-3;

    [Setting("Whether the trust ratio is that of the step, learning rate included, and stops where the step would be SGD's.", When = Chosen)]
    public bool TrustClip { get; init; }

    [Setting("Whether parameters without decay are scaled too; else theirs is SGD's step.", When = Chosen)]
    public bool AlwaysAdapt { get; init; }

    [Setting("Whether weights decay where their gradient is zero throughout.", When = Chosen)]
    public bool DecayWithoutGradient { get; init; } = true;
}

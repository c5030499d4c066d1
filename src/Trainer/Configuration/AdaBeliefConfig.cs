namespace Moe.Training.Configuration;

/// <summary>Section <c>optimizer.adabelief</c> (https://arxiv.org/abs/2010.07468).</summary>
public sealed record AdaBeliefConfig
{
    private const string Chosen = "optimizer.name=adabelief";

    [Setting("Whether steps are shorter while the variance is known from few gradients.", When = Chosen)]
    public bool Rectify { get; init; } = true;

    [Setting("Whether the first steps, too early to rectify, go along the mean gradient; else the weights wait.", When = Chosen)]
    public bool DegenerateToSgd { get; init; } = true;
}

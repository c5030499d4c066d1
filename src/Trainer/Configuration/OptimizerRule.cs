using Moe.Torch;

namespace Moe.Training.Configuration;

/// <summary>An item of <c>optimizer.rules</c>: which parameters it is about, and how they are stepped.</summary>
public sealed record OptimizerRule
{
    [Setting("Keys that it is about: `*` stands for any text, `?` for one character, as in `layers.*.attention.query`.")]
    public string Match { get; init; } = "*";

    [Setting("Kind that it is about; null for any. Of the parameters that match.")]
    public ParameterKind? Kind { get; init; }

    [Setting("Their optimizer.", Default = "what they would have without a rule")]
    public OptimizerName? Optimizer { get; init; }

    [Setting("Their peak learning rate.", Above = 0, AtMost = 1000, Default = "what they would have without a rule")]
    public double? LearningRate { get; init; }

    [Setting("Their weight decay.", AtLeast = 0, Default = "optimizer.weight_decay")]
    public double? WeightDecay { get; init; }
}

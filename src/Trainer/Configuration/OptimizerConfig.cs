namespace Moe.Training.Configuration;

/// <summary>Section <c>optimizer</c>. A key that belongs to some optimizers only says so in its declaration.</summary>
public sealed record OptimizerConfig
{
    [Setting("Which optimizer steps the weights.")]
    public OptimizerName Name { get; init; } = OptimizerName.AdamW;

    [Setting("Peak learning rate, reached after the warm-up.", Above = 0)]
    public double LearningRate { get; init; } = 1e-3;

    [Setting("Decoupled decay a step and a unit of learning rate; norms and the router's selection bias aren't decayed.", AtLeast = 0)]
    public double WeightDecay { get; init; } = 0.1;

    [Setting("Share of the running mean of gradients kept a step.", AtLeast = 0, Below = 1, When = "optimizer.name=adamw")]
    public double Beta1 { get; init; } = 0.9;

    [Setting("Share of the running mean of squared gradients kept a step.", AtLeast = 0, Below = 1, When = "optimizer.name=adamw")]
    public double Beta2 { get; init; } = 0.95;

    [Setting("Added to the root of the mean square.", Above = 0, When = "optimizer.name=adamw")]
    public double Epsilon { get; init; } = 1e-8;

    [Setting("Share of the running gradient kept a step; 0 is plain gradient descent.", AtLeast = 0, Below = 1, When = "optimizer.name=sgd")]
    public double Momentum { get; init; } = 0.9;

    [Setting("Share of a new gradient that doesn't enter the running gradient.", AtLeast = 0, Below = 1, When = "optimizer.name=sgd")]
    public double Dampening { get; init; }

    [Setting("Whether the step looks ahead by one momentum step.", When = "optimizer.name=sgd")]
    public bool Nesterov { get; init; }
}

/// <summary>Values of <c>optimizer.name</c>; an optimizer is one more line here.</summary>
public enum OptimizerName
{
    /// <summary>Adam with decoupled weight decay (https://arxiv.org/abs/1711.05101).</summary>
    [Spelling("adamw")] AdamW,

    /// <summary>Stochastic gradient descent with momentum.</summary>
    Sgd,
}

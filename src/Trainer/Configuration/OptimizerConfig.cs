using Moe.Optimizers;

namespace Moe.Training.Configuration;

/// <summary>Section <c>optimizer</c>: what several optimizers share. A key that belongs to some only says so in its declaration.</summary>
/// <remarks>Under <c>muon</c> and <c>drop_muon</c> beta1, beta2, epsilon and amsgrad are those of the AdamW that steps what is no hidden matrix.</remarks>
public sealed record OptimizerConfig
{
    private const string Adam = "optimizer.name=adamw|adabelief|lamb|muon|drop_muon";
    private const string RunningGradient = "optimizer.name=sgd|lars|muon|drop_muon";

    [Setting("Which optimizer steps the weights.")]
    public OptimizerName Name { get; init; } = OptimizerName.AdamW;

    [Setting("Peak learning rate, reached after the warm-up.", Above = 0, AtMost = 1000)]
    public double LearningRate { get; init; } = 1e-3;

    [Setting("Peak learning rate of the AdamW that steps what is no hidden matrix.", Above = 0, AtMost = 1000, Default = "optimizer.learning_rate",
        When = "optimizer.name=muon|drop_muon")]
    public double? AuxiliaryLearningRate { get; init; }

    [Setting("Decay a step, in the form of `optimizer.decay`; norms and the router's selection bias aren't decayed.", AtLeast = 0)]
    public double WeightDecay { get; init; } = 0.1;

    [Setting("Where the decay acts: on the weights times the learning rate (`decoupled`), on the gradient (`coupled`), or on the weights as it is (`fixed`).",
        When = "optimizer.name=adamw|sgd|adabelief|muon|drop_muon")]
    public DecayForm Decay { get; init; } = DecayForm.Decoupled;

    [Setting("An expert that no token of the step chose is left as it is (`skip`), or stepped with a gradient of zeros, as published (`reference`).")]
    public IdlePolicy Idle { get; init; } = IdlePolicy.Skip;

    [Setting("Share of the running mean of gradients kept a step.", AtLeast = 0, Below = 1, When = Adam)]
    public double Beta1 { get; init; } = 0.9;

    [Setting("Share of the running mean of squared gradients kept a step.", AtLeast = 0, Below = 1, When = Adam)]
    public double Beta2 { get; init; } = 0.95;

    [Setting("Added to the root of the mean square; lars: to the norm that is divided by.", Above = 0, When = Adam + "|lars",
        Default = "what the optimizer's authors took: 1e-8; adabelief 1e-16, lamb 1e-6")]
    public double? Epsilon { get; init; }

    [Setting("Whether the largest mean square so far is divided by.", When = "optimizer.name=adamw|adabelief|muon|drop_muon")]
    public bool Amsgrad { get; init; }

    [Setting("Type of adamw's running means of bfloat16 weights (`train.weights`).", When = "optimizer.name=adamw")]
    public StoredType StateType { get; init; } = StoredType.Float32;

    [Setting("Whether bfloat16 weights (`train.weights`) have float32 ones beside them that adamw steps, so that no small step is lost.", When = "optimizer.name=adamw")]
    public bool MasterWeights { get; init; } = true;

    [Setting("Share of the running gradient kept a step; 0 is plain gradient descent.", AtLeast = 0, Below = 1, When = RunningGradient,
        Default = "0.9; muon and drop_muon 0.95")]
    public double? Momentum { get; init; }

    [Setting("Share of a new gradient that doesn't enter the running gradient.", AtLeast = 0, Below = 1, When = "optimizer.name=sgd|lars")]
    public double Dampening { get; init; }

    [Setting("Whether the step looks ahead by one momentum step.", When = "optimizer.name=sgd|lars")]
    public bool Nesterov { get; init; }

    [Setting("Whether experts that no other rank holds are stepped within backward, by the same numbers, as soon as their gradients are there, which then take no memory; "
        + "adamw with `state_type: bfloat16` steps them along with the gradient's product where the GPU is a Hopper.")]
    public bool ExpertsInBackward { get; init; }

    [Setting("What AdaBelief adds to the keys above.")]
    public AdaBeliefConfig Adabelief { get; init; } = new();

    [Setting("What LAMB adds to the keys above; its decay acts as `optimizer.lamb.decay` says.")]
    public LambConfig Lamb { get; init; } = new();

    [Setting("What LARS adds to the keys above; its decay is scaled with the gradient.")]
    public LarsConfig Lars { get; init; } = new();

    [Setting("What turns the gradients before they are stepped with: nothing (`none`), MKOR's curvature (`mkor`), or that until the loss falls slowly (`mkor_h`).")]
    public Precondition Precondition { get; init; } = Precondition.None;

    [Setting("How `optimizer.precondition` turns gradients.")]
    public MkorConfig Mkor { get; init; } = new();

    [Setting("Parameters that are stepped in another way; the first rule that is about a parameter counts.", Default = "none")]
    public ValueList<OptimizerRule> Rules { get; init; } = [];

    [Setting("What is Muon's own; also under `drop_muon`.")]
    public MuonConfig Muon { get; init; } = new();

    [Setting("What is Drop-Muon's own.")]
    public DropConfig Drop { get; init; } = new();

    /// <summary>Every optimizer that may step something, so that its keys count.</summary>
    internal IEnumerable<OptimizerName> Names => Rules.Select(rule => rule.Optimizer).OfType<OptimizerName>().Prepend(Name);
}

/// <summary>Values of <c>optimizer.name</c>; an optimizer is one more line here.</summary>
public enum OptimizerName
{
    /// <summary>Adam with decoupled weight decay (https://arxiv.org/abs/1711.05101).</summary>
    [Spelling("adamw")] AdamW,

    /// <summary>Stochastic gradient descent with momentum.</summary>
    Sgd,

    /// <summary>Adam that divides by the gradients' variance (https://arxiv.org/abs/2010.07468).</summary>
    [Spelling("adabelief")] AdaBelief,

    /// <summary>Adam with one trust ratio a matrix (https://arxiv.org/abs/1904.00962).</summary>
    Lamb,

    /// <summary>SGD with one trust ratio a matrix (https://arxiv.org/abs/1708.03888).</summary>
    Lars,

    /// <summary>Momentum made orthogonal, for hidden matrices; AdamW for the rest (https://kellerjordan.github.io/posts/muon/).</summary>
    Muon,

    /// <summary>Muon on a share of the layers a step (https://arxiv.org/abs/2510.02239).</summary>
    DropMuon,
}

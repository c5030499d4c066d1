using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>Settings of <see cref="AdamW"/>.</summary>
/// <param name="Beta1">Share of the running mean of gradients kept a step, in [0, 1).</param>
/// <param name="Beta2">Share of the running mean of squared gradients kept a step, in [0, 1).</param>
/// <param name="Epsilon">Added to the root of the mean square; above 0.</param>
/// <param name="WeightDecay">Per step and, unless <paramref name="Decay"/> is fixed, per unit of learning rate; at least 0.</param>
/// <param name="Decay">Where the decay acts; coupled is Adam with an L2 penalty.</param>
/// <param name="Amsgrad">Whether the largest mean square so far is divided by (Reddi et al. 2018, https://arxiv.org/abs/1904.09237).</param>
/// <param name="Maximize">Whether steps go up the gradient.</param>
/// <param name="CorrectEpsilon">
/// Whether epsilon is added after the bias correction of the mean square, as in PyTorch; before it, as in Moonlight's Muon, it weighs more in the first steps.
/// </param>
/// <param name="Idle">What happens to experts without tokens.</param>
/// <param name="StateType">Type of both means of bfloat16 weights: float32, or bfloat16 at half the memory, as PyTorch has it.</param>
/// <param name="Master">Whether bfloat16 weights have float32 ones beside them, which are stepped and rounded into the others: a step smaller than 1/256 of a weight then isn't lost.</param>
public sealed record AdamWOptions(
    double Beta1 = 0.9,
    double Beta2 = 0.999,
    double Epsilon = 1e-8,
    double WeightDecay = 0.01,
    DecayForm Decay = DecayForm.Decoupled,
    bool Amsgrad = false,
    bool Maximize = false,
    bool CorrectEpsilon = true,
    IdlePolicy Idle = IdlePolicy.Reference,
    DType StateType = DType.Float32,
    bool Master = false);

/// <summary>Steps every weight by its mean gradient over the root of its mean squared gradient: all weights move at about the same speed.</summary>
/// <remarks>
/// Kingma and Ba 2014, https://arxiv.org/abs/1412.6980; decoupled decay after Loshchilov and Hutter 2017,
/// https://arxiv.org/abs/1711.05101. The rule and its order of operations are PyTorch's. Elementwise; one pass over 28 bytes a float32 weight,
/// 14 a bfloat16 one with such a state.
/// </remarks>
public sealed class AdamW : MultiTensorOptimizer
{
    private readonly AdamWOptions _options;
    private readonly Tensor[] _mean;
    private readonly Tensor[] _meanSquare;
    private readonly Tensor[]? _largest;
    private readonly Tensor[]? _master;

    /// <param name="parameters">Of any shape.</param>
    /// <param name="options">Validated with the rest of the configuration.</param>
    public AdamW(IReadOnlyList<LogicalParameter> parameters, AdamWOptions options)
        : base(parameters, options.Idle)
    {
        _options = options;
        _mean = NewState("mean", options.StateType);
        _meanSquare = NewState("mean_square", options.StateType);
        _largest = options.Amsgrad ? NewState("largest_mean_square", options.StateType) : null;
        _master = options.Master && parameters.Any(parameter => parameter.Value.DType == DType.BFloat16) ? NewMasters() : null;
    }

    /// <inheritdoc/>
    public override bool ScalesGradients => true;

    /// <inheritdoc/>
    protected override void Update(StepList list, OptimizerStep step)
    {
        using var own = list.Update is null ? PrepareUpdate(list) : null;
        (own ?? list.Update)!.Run(Table(list, step.LearningRate));
    }

    /// <inheritdoc/>
    protected override (UpdateRule Rule, Tensor[][] Slots, double[,] Coefficients)? PrepareStacked(StepList list, OptimizerStep step) =>
        _largest is null && _master is null && _options.StateType == DType.BFloat16 && Array.TrueForAll(list.Stored, stored => stored.DType == DType.BFloat16)
            ? (UpdateRule.Adam, [_mean, _meanSquare], Table(list, step.LearningRate))
            : null;

    private double[,] Table(StepList list, double learningRate)
    {
        var (alike, row) = ((Steps: -1L, Decay: 0.0, Scale: 0.0), Array.Empty<double>());
        return list.Coefficients(i =>
        {
            // Neighbours mostly have the same; a model of many experts has thousands.
            var key = (list.Steps(i), DecayOf(list.Parameters[i], _options.WeightDecay), list.Parameters[i].GradientScale);
            if (key != alike)
            {
                (alike, row) = (key, Coefficients(list.Parameters[i], key.Item1, learningRate));
            }

            return row;
        });
    }

    /// <inheritdoc/>
    protected override bool Prepares => true;

    /// <inheritdoc/>
    protected override PreparedUpdate PrepareUpdate(StepList list)
    {
        var values = _master is null ? list.Stored : list.Of(_master);
        var copies = _master is null ? null : Array.ConvertAll(list.Stored, stored => stored.DType == DType.BFloat16 ? stored : null);
        return _largest is null
            ? MultiTensor.Prepare(UpdateRule.Adam, copies, values, list.StoredGradients, list.Of(_mean), list.Of(_meanSquare))
            : MultiTensor.Prepare(UpdateRule.AdamAmsgrad, copies, values, list.StoredGradients, list.Of(_mean), list.Of(_meanSquare), list.Of(_largest));
    }

    // In the order of the rule's coefficients: gradient scale, coupled decay, decay factor, betas, root scale, epsilon, -step.
    private double[] Coefficients(LogicalParameter parameter, long t, double learningRate)
    {
        var (beta1, beta2) = (_options.Beta1, _options.Beta2);
        var decay = DecayOf(parameter, _options.WeightDecay);

        // Both means start at 0; dividing by what they have gathered of their weights undoes the bias.
        var (weight1, root2) = (1 - Math.Pow(beta1, t), Math.Sqrt(1 - Math.Pow(beta2, t)));
        var sign = (_options.Maximize ? -1 : 1) * parameter.GradientScale;
        var (coupled, factor) = (OnGradient(_options.Decay, decay), Kept(_options.Decay, decay, learningRate));
        return _options.CorrectEpsilon
            ? [sign, coupled, factor, beta1, 1 - beta1, beta2, 1 - beta2, 1 / root2, _options.Epsilon, -learningRate / weight1]
            : [sign, coupled, factor, beta1, 1 - beta1, beta2, 1 - beta2, 1, _options.Epsilon, -learningRate * root2 / weight1];
    }
}

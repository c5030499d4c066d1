using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>Settings of <see cref="AdaBelief"/>; the defaults are those of version 0.2.1.</summary>
/// <param name="Beta1">Share of the running mean of gradients kept a step, in [0, 1).</param>
/// <param name="Beta2">Share of the running variance kept a step, in [0, 1).</param>
/// <param name="Epsilon">Added to the variance at every step, where it gathers, and to its root; above 0. About the square of what Adam would have.</param>
/// <param name="WeightDecay">Per step and, unless <paramref name="Decay"/> is fixed, per unit of learning rate; at least 0.</param>
/// <param name="Decay">Where the decay acts: the authors' weight_decouple, fixed_decay, or neither.</param>
/// <param name="Amsgrad">Whether the largest variance so far is divided by. Rectified steps take no notice of it, as published.</param>
/// <param name="Rectify">Whether the step shrinks while the variance is known from few gradients (RAdam, https://arxiv.org/abs/1908.03265).</param>
/// <param name="DegenerateToSgd">Whether steps that are too early to rectify go along the mean gradient; else the weights wait.</param>
/// <param name="Idle">What happens to experts without tokens.</param>
public sealed record AdaBeliefOptions(
    double Beta1 = 0.9,
    double Beta2 = 0.999,
    double Epsilon = 1e-16,
    double WeightDecay = 0,
    DecayForm Decay = DecayForm.Decoupled,
    bool Amsgrad = false,
    bool Rectify = true,
    bool DegenerateToSgd = true,
    IdlePolicy Idle = IdlePolicy.Reference);

/// <summary>Adam that divides by how far gradients stray from their running mean, not by how large they are: where they agree, steps are long.</summary>
/// <remarks>
/// Zhuang et al. 2020, https://arxiv.org/abs/2010.07468, with the order of operations of the authors' package. Elementwise; 8 bytes of
/// state a float32 weight, 12 with amsgrad.
/// </remarks>
public sealed class AdaBelief : MultiTensorOptimizer
{
    private readonly AdaBeliefOptions _options;
    private readonly Tensor[] _mean;
    private readonly Tensor[] _variance;
    private readonly Tensor[]? _largest;

    /// <param name="parameters">Of any shape.</param>
    /// <param name="options">Validated with the rest of the configuration.</param>
    public AdaBelief(IReadOnlyList<LogicalParameter> parameters, AdaBeliefOptions options)
        : base(parameters, options.Idle)
    {
        _options = options;
        _mean = NewState("mean");
        _variance = NewState("variance");
        _largest = options is { Amsgrad: true, Rectify: false } ? NewState("largest_variance") : null;
    }

    /// <inheritdoc/>
    protected override void Update(StepList list, OptimizerStep step)
    {
        var table = list.Coefficients(i => Coefficients(list.Parameters[i], list.Steps(i), step.LearningRate));
        if (_largest is null)
        {
            MultiTensor.Update(UpdateRule.AdaBelief, table, list.Values, list.Gradients, list.Of(_mean), list.Of(_variance));
        }
        else
        {
            MultiTensor.Update(UpdateRule.AdaBeliefAmsgrad, table, list.Values, list.Gradients, list.Of(_mean), list.Of(_variance), list.Of(_largest));
        }
    }

    // In the order of the rule's coefficients: coupled decay, decay factor, betas, added to the variance, root scale, epsilon, -step.
    private double[] Coefficients(LogicalParameter parameter, long t, double learningRate)
    {
        var (beta1, beta2, epsilon) = (_options.Beta1, _options.Beta2, _options.Epsilon);
        var decay = DecayOf(parameter, _options.WeightDecay);
        var (rootScale, added, factor) = Denominator(t);
        return
        [
            OnGradient(_options.Decay, decay), Kept(_options.Decay, decay, learningRate), beta1, 1 - beta1, beta2, 1 - beta2, epsilon,
            rootScale, added, -learningRate * factor / (1 - Math.Pow(beta1, t)),
        ];
    }

    // The step is factor * mean / (root of the variance * rootScale + added), its mean corrected for starting at 0.
    private (double RootScale, double Added, double Factor) Denominator(long t)
    {
        var left2 = Math.Pow(_options.Beta2, t);
        var weight2 = 1 - left2;
        if (!_options.Rectify)
        {
            return (1 / Math.Sqrt(weight2), _options.Epsilon, 1);
        }

        // N, the number of gradients whose plain average would know the variance as well as the running one; at the limit, and now.
        var limit = (2 / (1 - _options.Beta2)) - 1;
        var n = limit - (2 * t * left2 / weight2);
        return n >= 5
            ? (1, _options.Epsilon, Math.Sqrt(weight2 * (n - 4) / (limit - 4) * (n - 2) / n * limit / (limit - 2)))
            : (0, 1, _options.DegenerateToSgd ? 1 : 0);
    }
}

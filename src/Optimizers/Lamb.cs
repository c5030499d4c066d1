using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Optimizers;

/// <summary>Settings of <see cref="Lamb"/>; the defaults are those of timm and of Apex.</summary>
/// <param name="Beta1">Share of the running mean of gradients kept a step, in [0, 1).</param>
/// <param name="Beta2">Share of the running mean of squared gradients kept a step, in [0, 1).</param>
/// <param name="Epsilon">Added to the root of the mean square; above 0.</param>
/// <param name="WeightDecay">As a share of the weights, in the unit that <paramref name="Decay"/> says; at least 0.</param>
/// <param name="Decay">Where the decay acts.</param>
/// <param name="BiasCorrection">Whether both means are corrected for starting at 0.</param>
/// <param name="GradientAveraging">Whether a new gradient enters its mean with 1 - beta1; else with 1.</param>
/// <param name="MaxGradientNorm">Gradients of the whole model are scaled to this norm where theirs is larger; above 0. Null takes them as they are.</param>
/// <param name="TrustClip">Whether trust ratios stop at 1 (LAMBC).</param>
/// <param name="AlwaysAdapt">Whether parameters without decay have a trust ratio too (Apex's use_nvlamb); else theirs is 1.</param>
/// <param name="Idle">What happens to experts without tokens.</param>
public sealed record LambOptions(
    double Beta1 = 0.9,
    double Beta2 = 0.999,
    double Epsilon = 1e-6,
    double WeightDecay = 0.01,
    LambDecay Decay = LambDecay.Direction,
    bool BiasCorrection = true,
    bool GradientAveraging = true,
    double? MaxGradientNorm = 1,
    bool TrustClip = false,
    bool AlwaysAdapt = false,
    IdlePolicy Idle = IdlePolicy.Reference);

/// <summary>Adam's direction, made as long as the weights: every matrix moves by the learning rate as a share of its own norm.</summary>
/// <remarks>
/// You et al. 2019, https://arxiv.org/abs/1904.00962, in the form of timm and Apex. One trust ratio a logical parameter, so one an
/// expert's matrix. The gradients are overwritten by the directions; 8 bytes of state a float32 weight.
/// </remarks>
public sealed class Lamb : MultiTensorOptimizer
{
    private readonly LambOptions _options;
    private readonly Tensor[] _mean;
    private readonly Tensor[] _meanSquare;

    /// <param name="parameters">Of any shape; each is one whole matrix or vector.</param>
    /// <param name="options">Validated with the rest of the configuration.</param>
    public Lamb(IReadOnlyList<LogicalParameter> parameters, LambOptions options)
        : base(parameters, options.Idle)
    {
        _options = options;
        _mean = NewState("mean");
        _meanSquare = NewState("mean_square");
    }

    /// <inheritdoc/>
    public override StackedUpdate? BeginEarly(Parameter parameter, IReadOnlyList<LogicalParameter> logical, OptimizerStep step) =>
        _options.MaxGradientNorm is null ? base.BeginEarly(parameter, logical, step) : throw new NotSupportedException("LAMB with a largest gradient norm waits for all gradients");

    /// <inheritdoc/>
    protected override void Update(StepList list, OptimizerStep step)
    {
        var clip = _options.MaxGradientNorm is { } most ? Math.Max(1, step.GradientNorm / most) : 1;
        MultiTensor.Update(
            UpdateRule.LambDirection,
            list.Coefficients(i => Direction(DecayOf(list.Parameters[i], _options.WeightDecay), list.Steps(i), 1 / clip)),
            list.Values,
            list.Gradients,
            list.Of(_mean),
            list.Of(_meanSquare));

        double Kept(int i) => _options.Decay == LambDecay.Weights ? 1 - (step.LearningRate * DecayOf(list.Parameters[i], _options.WeightDecay)) : 1;
        var norms = MultiTensor.Norms([.. list.Values, .. list.Gradients]);
        double Trust(int i) => TrustRatio(list.Parameters[i], Math.Abs(Kept(i)) * norms[i], norms[list.Count + i]);
        MultiTensor.Update(UpdateRule.ScaledSum, list.Coefficients(i => [Kept(i), -step.LearningRate * Trust(i)]), list.Values, list.Gradients);
    }

    // In the order of the rule's coefficients: gradient scale, coupled decay, betas, mean scale, root scale, epsilon, decay in the direction.
    private double[] Direction(double decay, long t, double gradientScale)
    {
        var (beta1, beta2) = (_options.Beta1, _options.Beta2);
        var (weight1, weight2) = _options.BiasCorrection ? (1 - Math.Pow(beta1, t), 1 - Math.Pow(beta2, t)) : (1, 1);
        return
        [
            gradientScale, _options.Decay == LambDecay.Gradient ? decay : 0, beta1, _options.GradientAveraging ? 1 - beta1 : 1, beta2, 1 - beta2,
            1 / weight1, 1 / Math.Sqrt(weight2), _options.Epsilon, _options.Decay == LambDecay.Direction ? decay : 0,
        ];
    }

    private double TrustRatio(LogicalParameter parameter, double weightNorm, double directionNorm)
    {
        var adapts = _options.AlwaysAdapt || DecayOf(parameter, _options.WeightDecay) != 0;
        var ratio = adapts && weightNorm > 0 && directionNorm > 0 ? weightNorm / directionNorm : 1;
        return _options.TrustClip ? Math.Min(ratio, 1) : ratio;
    }
}

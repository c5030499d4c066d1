using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>Settings of <see cref="Lars"/>; the defaults are those of timm.</summary>
/// <param name="Momentum">Share of the running gradient kept a step, in [0, 1); 0 keeps none and needs no state.</param>
/// <param name="Dampening">Share of a new gradient that does not enter the running one, in [0, 1].</param>
/// <param name="Nesterov">Whether the step looks ahead by one momentum step.</param>
/// <param name="WeightDecay">As a share of the weights, added to the gradient before it is scaled; at least 0.</param>
/// <param name="TrustCoefficient">Length of the scaled gradient as a share of the weights' norm; above 0.</param>
/// <param name="Epsilon">Added to the norm that is divided by; above 0.</param>
/// <param name="TrustClip">Whether the trust ratio is that of the step, learning rate included, and stops where the step would be SGD's.</param>
/// <param name="AlwaysAdapt">Whether parameters without decay are scaled too; else theirs is SGD's step.</param>
/// <param name="DecayWithoutGradient">Whether weights decay where the gradient is zero throughout. Apex's LARC leaves them.</param>
/// <param name="Idle">What happens to experts without tokens.</param>
public sealed record LarsOptions(
    double Momentum = 0,
    double Dampening = 0,
    bool Nesterov = false,
    double WeightDecay = 0,
    double TrustCoefficient = 1e-3,
    double Epsilon = 1e-8,
    bool TrustClip = false,
    bool AlwaysAdapt = false,
    bool DecayWithoutGradient = true,
    IdlePolicy Idle = IdlePolicy.Reference);

/// <summary>SGD with gradients made as long as a share of the weights, each matrix by its own norm; with other options Apex's LARC.</summary>
/// <remarks>
/// You, Gitman and Ginsburg 2017, https://arxiv.org/abs/1708.03888, in timm's form. One trust ratio a logical parameter, so one an
/// expert's matrix; 4 bytes of state a float32 weight, none without momentum.
/// </remarks>
public sealed class Lars : MultiTensorOptimizer
{
    private readonly LarsOptions _options;
    private readonly MomentumStep _descent;
    private readonly Tensor[]? _running;

    /// <param name="parameters">Of any shape; each is one whole matrix or vector.</param>
    /// <param name="options">Validated with the rest of the configuration.</param>
    public Lars(IReadOnlyList<LogicalParameter> parameters, LarsOptions options)
        : base(parameters, options.Idle)
    {
        _options = options;
        _descent = new MomentumStep(options.Momentum, options.Dampening, options.Nesterov);
        _running = options.Momentum > 0 ? NewState("momentum") : null;
    }

    /// <inheritdoc/>
    protected override void Update(StepList list, OptimizerStep step)
    {
        var norms = MultiTensor.Norms([.. list.Values, .. list.Gradients]);
        _descent.Apply(list, _running, step.LearningRate, i => Rewritten(list.Parameters[i], norms[i], norms[list.Count + i], step.LearningRate));
    }

    private GradientForm Rewritten(LogicalParameter parameter, double weightNorm, double gradientNorm, double learningRate)
    {
        var decay = DecayOf(parameter, _options.WeightDecay);
        var nonzero = weightNorm > 0 && gradientNorm > 0;
        if ((decay == 0 && !_options.AlwaysAdapt) || !(nonzero || _options.DecayWithoutGradient))
        {
            return new GradientForm(1, 0, 1);
        }

        var ratio = nonzero ? _options.TrustCoefficient * weightNorm / (gradientNorm + (weightNorm * decay) + _options.Epsilon) : 1;
        var trust = _options.TrustClip ? Math.Min(ratio / learningRate, 1) : ratio;
        return new GradientForm(trust, trust * decay, 1);
    }
}

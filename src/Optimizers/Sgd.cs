using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>Settings of <see cref="Sgd"/>.</summary>
/// <param name="Momentum">Share of the running gradient kept a step, in [0, 1); 0 keeps none and needs no state.</param>
/// <param name="Dampening">Share of a new gradient that does not enter the running one, in [0, 1].</param>
/// <param name="Nesterov">Whether the step looks ahead by one momentum step.</param>
/// <param name="WeightDecay">Per step and, unless <paramref name="Decay"/> is fixed, per unit of learning rate; at least 0.</param>
/// <param name="Decay">Where the decay acts; PyTorch's SGD has it coupled.</param>
/// <param name="Maximize">Whether steps go up the gradient.</param>
/// <param name="Idle">What happens to experts without tokens.</param>
public sealed record SgdOptions(
    double Momentum = 0,
    double Dampening = 0,
    bool Nesterov = false,
    double WeightDecay = 0,
    DecayForm Decay = DecayForm.Decoupled,
    bool Maximize = false,
    IdlePolicy Idle = IdlePolicy.Reference);

/// <summary>Stochastic gradient descent, plain or with momentum: the one optimizer whose step shows a wrong factor in the gradient.</summary>
/// <remarks>Momentum as in Sutskever et al. 2013 and PyTorch: the running gradient starts at the first gradient, not at zero.</remarks>
public sealed class Sgd : MultiTensorOptimizer
{
    private readonly SgdOptions _options;
    private readonly MomentumStep _descent;
    private readonly Tensor[]? _running;

    /// <param name="parameters">Of any shape.</param>
    /// <param name="options">Validated with the rest of the configuration.</param>
    public Sgd(IReadOnlyList<LogicalParameter> parameters, SgdOptions options)
        : base(parameters, options.Idle)
    {
        _options = options;
        _descent = new MomentumStep(options.Momentum, options.Dampening, options.Nesterov);
        _running = options.Momentum > 0 ? NewState("momentum") : null;
    }

    /// <inheritdoc/>
    protected override void Update(StepList list, OptimizerStep step) => _descent.Apply(list, _running, step.LearningRate, i =>
    {
        var decay = DecayOf(list.Parameters[i], _options.WeightDecay);
        return new GradientForm(_options.Maximize ? -1 : 1, OnGradient(_options.Decay, decay), Kept(_options.Decay, decay, step.LearningRate));
    });
}

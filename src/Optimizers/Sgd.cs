using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>Settings of <see cref="Sgd"/>.</summary>
/// <param name="Momentum">Share of the running gradient kept a step, in [0, 1); 0 keeps none and needs no state.</param>
/// <param name="Dampening">Share of a new gradient that does not enter the running one, in [0, 1].</param>
/// <param name="Nesterov">Whether the step looks ahead by one momentum step.</param>
/// <param name="WeightDecay">Decoupled decay, per step and per unit of learning rate; at least 0.</param>
public sealed record SgdOptions(double Momentum = 0, double Dampening = 0, bool Nesterov = false, double WeightDecay = 0);

/// <summary>Stochastic gradient descent, plain or with momentum: the one optimizer whose step shows a wrong factor in the gradient.</summary>
/// <remarks>
/// Momentum as in Sutskever et al. 2013 and PyTorch: the running gradient starts at the first gradient, not at zero.
/// Decay is decoupled (Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101), where PyTorch's SGD adds it to the gradient.
/// </remarks>
public sealed class Sgd : Optimizer
{
    private readonly SgdOptions _options;
    private readonly Tensor[] _running;

    /// <param name="parameters">Of any shape.</param>
    /// <param name="options">Validated with the rest of the configuration.</param>
    public Sgd(IReadOnlyList<Parameter> parameters, SgdOptions options)
        : base(parameters)
    {
        _options = options;
        _running = options.Momentum > 0 ? NewState("momentum") : [];
    }

    /// <inheritdoc/>
    protected override void Update(Tensor[] gradients, double learningRate)
    {
        Decay(learningRate * _options.WeightDecay);
        if (_options.Momentum == 0)
        {
            ForEach.Add_(Values, gradients, -learningRate);
            return;
        }

        ForEach.Multiply_(_running, _options.Momentum);
        ForEach.Add_(_running, gradients, Steps == 1 ? 1 : 1 - _options.Dampening);
        if (_options.Nesterov)
        {
            ForEach.Add_(Values, gradients, -learningRate);
            ForEach.Add_(Values, _running, -learningRate * _options.Momentum);
        }
        else
        {
            ForEach.Add_(Values, _running, -learningRate);
        }
    }
}

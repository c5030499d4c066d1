namespace Moe.Optimizers;

/// <summary>Where weight decay acts.</summary>
public enum DecayForm
{
    /// <summary>On the weights, before the step, times the learning rate (Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101).</summary>
    Decoupled,

    /// <summary>On the gradient, before the moments: the gradient of an L2 penalty.</summary>
    Coupled,

    /// <summary>On the weights, before the step, whatever the learning rate.</summary>
    Fixed,
}

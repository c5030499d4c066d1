namespace Moe.Optimizers;

/// <summary>Where weight decay acts in LAMB.</summary>
public enum LambDecay
{
    /// <summary>In the direction, before its norm is taken: the paper, and every implementation's default.</summary>
    Direction,

    /// <summary>On the clipped gradient, before the moments: Apex's adam_w_mode=0.</summary>
    Gradient,

    /// <summary>On the weights, before their norm is taken, times the learning rate: timm's decoupled_decay.</summary>
    Weights,
}

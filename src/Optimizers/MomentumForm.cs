namespace Moe.Optimizers;

/// <summary>How a running gradient takes in a new one. Muon's direction is the same for both but for epsilon; the states differ by the factor 1 - momentum.</summary>
public enum MomentumForm
{
    /// <summary>An exponential moving average, momentum * old + (1 - momentum) * gradient: Jordan, PyTorch.</summary>
    Ema,

    /// <summary>A running sum, momentum * old + gradient: Moonlight, Dion.</summary>
    Sum,
}

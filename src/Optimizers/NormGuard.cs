namespace Moe.Optimizers;

/// <summary>How <see cref="NewtonSchulz"/> divides a matrix by its Frobenius norm without dividing by 0.</summary>
public enum NormGuard
{
    /// <summary>By norm + epsilon: Jordan's Muon, Moonlight, Dion.</summary>
    Added,

    /// <summary>By the larger of norm and epsilon: PyTorch.</summary>
    Floor,

    /// <summary>By 1.02 * norm + epsilon: Polar Express, whose polynomials leave their basin where rounding lifts a singular value above 1.</summary>
    Widened,
}

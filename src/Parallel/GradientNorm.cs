namespace Moe.Distributed;

/// <summary>Euclidean norm of all gradients as one vector, and what is decided by it: alike on all ranks, since the number is.</summary>
public sealed class GradientNorm
{
    private readonly GradientReduction _reduction;

    internal GradientNorm(GradientReduction reduction, double norm)
    {
        _reduction = reduction;
        Norm = norm;
    }

    /// <summary>The norm; infinite or NaN where a gradient of any rank is.</summary>
    public double Norm { get; }

    /// <summary>Whether all gradients of all ranks are finite.</summary>
    public bool IsFinite => double.IsFinite(Norm);

    /// <summary>Key of the first parameter, by the model's order, whose gradient is not finite, on whatever rank; null where they all are. All ranks call it.</summary>
    /// <exception cref="CommunicationException">The exchange failed.</exception>
    public string? FirstNotFinite() => IsFinite ? null : _reduction.FirstNotFinite();

    /// <summary>Scales the gradients of <see cref="GradientReduction.Logical"/>, where their norm is larger than <paramref name="maximum"/>, so that it is that.</summary>
    /// <param name="maximum">Above 0; or 0 for no limit.</param>
    /// <exception cref="InvalidOperationException">The norm is not finite: no factor mends that.</exception>
    public void Clip(double maximum)
    {
        if (!IsFinite)
        {
            throw new InvalidOperationException($"gradients with the norm {Norm} can't be clipped");
        }

        if (maximum > 0 && Norm > maximum)
        {
            _reduction.Scale(maximum / Norm);
        }
    }
}

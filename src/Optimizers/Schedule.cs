namespace Moe.Optimizers;

/// <summary>The shape of the learning rate's fall.</summary>
public enum Decay
{
    /// <summary>Stays at the peak.</summary>
    Constant,

    /// <summary>A straight line from the peak to the final value.</summary>
    Linear,

    /// <summary>Half a cosine from the peak to the final value (Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983).</summary>
    Cosine,

    /// <summary>1 - sqrt of the way: steep at first (Hägele et al. 2024, https://arxiv.org/abs/2405.18392, who found it best after a stable part).</summary>
    InverseRoot,
}

/// <summary>The learning rate as a function of the step alone: a straight warm-up, a stable part, and a fall; or a refined curve.</summary>
/// <param name="Peak">Reached at the end of the warm-up; above 0.</param>
/// <param name="Decay">Shape of the fall.</param>
/// <param name="Steps">Length of the whole training.</param>
/// <param name="WarmupSteps">Steps below the peak at the start; less than <paramref name="Steps"/>.</param>
/// <param name="FinalFraction">Learning rate of the last step, and of any after it, as a share of the peak where it decays, in [0, 1].</param>
public sealed record Schedule(double Peak, Decay Decay, long Steps, long WarmupSteps, double FinalFraction)
{
    /// <summary>Steps below the peak at the end, at least 1; null for all after the warm-up.</summary>
    public long? DecaySteps { get; init; }

    /// <summary>Shares of the peak over the whole training, in the place of warm-up and fall; null for those.</summary>
    public RefinedCurve? Refined { get; init; }

    /// <summary>Learning rate of a step.</summary>
    /// <param name="step">Steps done before it, from 0. The warm-up's first step has 1/(WarmupSteps + 1) of the peak, so that none is wasted at 0.</param>
    public double At(long step)
    {
        if (Refined is not null)
        {
            return Peak * Refined.At(step, Steps);
        }

        if (step < WarmupSteps)
        {
            return Peak * (step + 1) / (WarmupSteps + 1);
        }

        var lastAtPeak = Math.Max(WarmupSteps, Steps - 1 - (DecaySteps ?? Steps));
        var progress = Math.Clamp((double)(step - lastAtPeak) / Math.Max(1, Steps - 1 - lastAtPeak), 0, 1);
        var left = Decay switch
        {
            Decay.Linear => 1 - progress,
            Decay.Cosine => (1 + Math.Cos(Math.PI * progress)) / 2,
            Decay.InverseRoot => 1 - Math.Sqrt(progress),
            _ => 1,
        };
        return Peak * (left + (FinalFraction * (1 - left))); // exact at both ends
    }
}

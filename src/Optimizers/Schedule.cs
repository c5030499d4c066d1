namespace Moe.Optimizers;

/// <summary>The course of the learning rate after the warm-up.</summary>
public enum Decay
{
    /// <summary>Stays at the peak.</summary>
    Constant,

    /// <summary>A straight line from the peak to the final value.</summary>
    Linear,

    /// <summary>Half a cosine from the peak to the final value (Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983).</summary>
    Cosine,
}

/// <summary>The learning rate as a function of the step alone: a straight warm-up, then a decay.</summary>
/// <param name="Peak">Reached at the end of the warm-up; above 0.</param>
/// <param name="Decay">Course after the warm-up.</param>
/// <param name="Steps">Length of the whole training.</param>
/// <param name="WarmupSteps">Steps below the peak at the start; less than <paramref name="Steps"/>.</param>
/// <param name="FinalFraction">Learning rate of the last step, and of any after it, as a share of the peak where it decays, in [0, 1].</param>
public sealed record Schedule(double Peak, Decay Decay, long Steps, long WarmupSteps, double FinalFraction)
{
    /// <summary>Learning rate of a step.</summary>
    /// <param name="step">Steps done before it, from 0. The warm-up's first step has 1/(WarmupSteps + 1) of the peak, so that none is wasted at 0.</param>
    public double At(long step)
    {
        if (step < WarmupSteps)
        {
            return Peak * (step + 1) / (WarmupSteps + 1);
        }

        var progress = Math.Min(1, (double)(step - WarmupSteps) / Math.Max(1, Steps - 1 - WarmupSteps));
        var left = Decay switch
        {
            Decay.Linear => 1 - progress,
            Decay.Cosine => (1 + Math.Cos(Math.PI * progress)) / 2,
            _ => 1,
        };
        return Peak * (left + (FinalFraction * (1 - left))); // exact at both ends
    }
}

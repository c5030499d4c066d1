using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>What a momentum step takes as a parameter's gradient: scale * gradient + decay * weights; and what it leaves of the weights before.</summary>
internal readonly record struct GradientForm(double Scale, double Decay, double Kept);

/// <summary>The step of SGD, which LARS makes with a gradient rewritten for each parameter. The gradients stay as they are.</summary>
internal sealed record MomentumStep(double Momentum, double Dampening, bool Nesterov)
{
    /// <summary>Steps all parameters of a list in one native call.</summary>
    /// <param name="list">What to step.</param>
    /// <param name="running">The running gradients of all parameters; null without momentum.</param>
    /// <param name="rate">Learning rate.</param>
    /// <param name="form">The gradient of the parameter at a place.</param>
    public void Apply(StepList list, Tensor[]? running, double rate, Func<int, GradientForm> form)
    {
        if (running is null)
        {
            double[] Plain(GradientForm gradient) => [gradient.Kept - (rate * gradient.Decay), -rate * gradient.Scale];
            MultiTensor.Update(UpdateRule.ScaledSum, list.Coefficients(i => Plain(form(i))), list.Values, list.Gradients);
            return;
        }

        // The first gradient enters undampened: the running one starts there, not at zero.
        double Share(int i) => list.Steps(i) == 1 ? 1 : 1 - Dampening;
        double[] Row(GradientForm gradient, double share) => Nesterov
            ? [gradient.Scale, gradient.Decay, gradient.Kept, Momentum, share, -rate, -rate * Momentum]
            : [gradient.Scale, gradient.Decay, gradient.Kept, Momentum, share, 0, -rate];
        MultiTensor.Update(UpdateRule.Momentum, list.Coefficients(i => Row(form(i), Share(i))), list.Values, list.Gradients, list.Of(running));
    }
}

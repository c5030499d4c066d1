using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

public class AdaBeliefTests : ScopedTests
{
    // A constant gradient g strays from its mean by beta1^k g at step k, so the variance is a geometric sum.
    [Test]
    public void Under_constant_gradients_steps_lengthen_as_the_closed_form_says()
    {
        const double Rate = 0.01, Beta1 = 0.9, Beta2 = 0.99, Epsilon = 1e-12, Gradient = -0.3;
        var parameter = One(5, Gradient);
        using var optimizer = new AdaBelief([parameter], new AdaBeliefOptions(Beta1, Beta2, Epsilon, Rectify: false));
        var weight = 5.0;
        var steps = new List<double>();
        for (var t = 1; t <= 20; t++)
        {
            optimizer.Step(new OptimizerStep(Rate));
            var ratio = Beta1 * Beta1 / Beta2;
            var strayed = (1 - Beta2) * Gradient * Gradient * Math.Pow(Beta2, t) * ratio * (1 - Math.Pow(ratio, t)) / (1 - ratio);
            var gathered = Epsilon * (1 - Math.Pow(Beta2, t)) / (1 - Beta2);
            steps.Add(-Rate * Gradient / (Math.Sqrt((strayed + gathered) / (1 - Math.Pow(Beta2, t))) + Epsilon));
            weight += steps[^1];
            Assert.That(parameter.Value.Item(), Is.EqualTo(weight).Within(1e-12), $"step {t}");
        }

        Assert.That(steps, Is.Ordered.Ascending);
        Assert.That(steps[0], Is.EqualTo(Rate / Beta1).Within(1e-8));
    }

    [Test]
    public void Steps_that_are_too_early_to_rectify_follow_the_mean_gradient_or_wait([Values] bool degenerate)
    {
        var parameter = One(5, 2);
        using var optimizer = new AdaBelief([parameter], new AdaBeliefOptions(DegenerateToSgd: degenerate));
        for (var t = 1; t <= 5; t++)
        {
            optimizer.Step(new OptimizerStep(0.1));
            Assert.That(parameter.Value.Item(), Is.EqualTo(degenerate ? 5 - (0.1 * 2 * t) : 5).Within(1e-12), $"step {t}");
        }

        optimizer.Step(new OptimizerStep(0.1));
        Assert.That(parameter.Value.Item(), Is.Not.EqualTo(degenerate ? 5 - (0.1 * 2 * 6) : 5).Within(1e-3), "the first rectified step");
    }

    private static LogicalParameter One(double value, double gradient) =>
        new("p", ParameterKind.Matrix, Tensor.From([value]).Clone(), Tensor.From([gradient]).Clone());
}

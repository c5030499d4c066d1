using Moe.Optimizers;
using Moe.Tests.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

/// <summary>The refined schedule against the paper's sums done by hand and by force.</summary>
public class RefinedCurveTests
{
    [Test]
    public void Four_norms_give_the_rates_worked_out_by_hand()
    {
        // w = 1/4, 1, 1, 1/4; later weights 9/4, 5/4, 1/4, 0; products 9/16, 5/4, 1/4, 0.
        Assert.That(RefinedCurve.Of([2, 1, 1, 2], exponent: 2, smooth: 0).Shares, Is.EqualTo(new[] { 0.45, 1, 0.2, 0 }).Within(1e-15));

        // w = 1/2, 1, 1, 1/2; later weights 5/2, 3/2, 1/2, 0; products 5/4, 3/2, 1/2, 0.
        Assert.That(RefinedCurve.Of([2, 1, 1, 2], exponent: 1, smooth: 0).Shares, Is.EqualTo(new[] { 5.0 / 6, 1, 1.0 / 3, 0 }).Within(1e-15));
    }

    [Test]
    public void Equal_norms_give_the_straight_line_to_zero()
    {
        var shares = RefinedCurve.Of([.. Enumerable.Repeat(3.7, 11)], exponent: 2, smooth: 0.3).Shares;
        Assert.That(shares, Is.EqualTo(Enumerable.Range(0, 11).Select(t => 1 - (t / 10.0))).Within(1e-15));
    }

    [Test]
    public void Falling_norms_warm_up_and_norms_that_rise_at_the_end_fall_fast()
    {
        var falling = RefinedCurve.Of([.. Enumerable.Range(0, 100).Select(t => 1 + (20 * Math.Exp(-t / 10.0)))], exponent: 2, smooth: 0).Shares;
        Assert.That(falling[0], Is.LessThan(0.01));
        var peak = Array.IndexOf([.. falling], 1.0);
        Assert.That(peak, Is.InRange(10, 60));
        Assert.That(falling.Take(peak + 1), Is.Ordered.Ascending);
        Assert.That(falling.Skip(peak), Is.Ordered.Descending);
    }

    [Test]
    public void Sums_and_medians_done_by_force_give_the_same()
    {
        var random = FreshRandom.Create();
        for (var trial = 0; trial < 100; trial++)
        {
            var norms = Enumerable.Range(0, random.Next(2, 60)).Select(_ => random.Next(4) == 0 ? 1 : Math.Exp(2 * random.NextDouble())).ToArray();
            var (exponent, smooth) = (random.Next(1, 3), random.Next(3) * random.NextDouble() / 2);
            var shares = RefinedCurve.Of(norms, exponent, smooth).Shares;

            Assert.That(shares, Is.EqualTo(ByForce(norms, exponent, smooth)).Within(1e-12), $"trial {trial}");
            Assert.That(shares, Is.All.InRange(0, 1));
            Assert.That(shares.Max(), Is.EqualTo(1));
            Assert.That(shares[^1], Is.Zero);
        }
    }

    [TestCase(1e-300), TestCase(1e-9), TestCase(1e200)]
    public void Unit_of_the_norms_does_not_matter(double unit)
    {
        double[] norms = [3, 2, 2.5, 1, 1.5];
        Assert.That(
            RefinedCurve.Of([.. norms.Select(norm => norm * unit)], 2, 0).Shares,
            Is.EqualTo(RefinedCurve.Of(norms, 2, 0).Shares).Within(1e-12));
    }

    [Test]
    public void Single_spike_is_not_seen_behind_the_filter()
    {
        double[] norms = [.. Enumerable.Repeat(1.0, 50)];
        norms[20] = 1000;
        Assert.That(RefinedCurve.Of(norms, 2, 0.1).Shares, Is.EqualTo(Enumerable.Range(0, 50).Select(t => 1 - (t / 49.0))).Within(1e-14));
    }

    [Test]
    public void Run_of_the_same_length_gets_every_rate_exactly_and_another_length_the_line_between()
    {
        var curve = new RefinedCurve([0.25, 1, 0.5, 0]);
        Assert.That(Enumerable.Range(0, 6).Select(step => curve.At(step, 4)), Is.EqualTo(new[] { 0.25, 1, 0.5, 0, 0, 0 }));
        Assert.That(Enumerable.Range(0, 7).Select(step => curve.At(step, 7)), Is.EqualTo(new[] { 0.25, 0.625, 1, 0.75, 0.5, 0.25, 0 }));
        Assert.That(curve.At(0, 1), Is.EqualTo(0.25));
    }

    [Test]
    public void Schedule_follows_its_curve_alone()
    {
        var schedule = new Schedule(3e-3, Decay.Constant, Steps: 3, WarmupSteps: 2, FinalFraction: 1) { Refined = new RefinedCurve([0.5, 1, 0]) };
        Assert.That(Enumerable.Range(0, 4).Select(step => schedule.At(step)), Is.EqualTo(new[] { 1.5e-3, 3e-3, 0, 0 }));
    }

    [TestCase(new[] { 1.0 }, "at least 2 rates, not 1")]
    [TestCase(new[] { 1, -0.1 }, "rate 1 is -0.1, outside of 0 to 1")]
    [TestCase(new[] { 1, double.NaN, 0 }, "rate 1 is NaN")]
    [TestCase(new[] { 0.5, 0.9 }, "the largest rate is 0.9, not 1")]
    public void What_is_no_curve_is_refused(double[] shares, string message) =>
        Assert.That(() => new RefinedCurve(shares), Throws.ArgumentException.With.Message.Contains(message));

    [Test]
    public void Norms_that_say_nothing_are_refused([Values(0, -1, double.NaN, double.PositiveInfinity)] double norm) =>
        Assert.That(() => RefinedCurve.Of([1, norm, 2], 2, 0), Throws.ArgumentException.With.Message.Contains("positive and finite"));

    private static double[] ByForce(double[] norms, int exponent, double smooth)
    {
        var half = (int)(smooth * norms.Length) / 2;
        var padded = Enumerable.Repeat(norms[0], half).Concat(norms).Concat(norms.SkipLast(1).Reverse().Take(half)).ToArray();
        var weights = norms.Select((_, t) => Math.Pow(padded[t..(t + (2 * half) + 1)].Order().ElementAt(half), -exponent)).ToArray();
        var rates = weights.Select((weight, t) => weight * weights.Skip(t + 1).Sum()).ToArray();
        return [.. rates.Select(rate => rate / rates.Max())];
    }
}

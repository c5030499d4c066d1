using Moe.Optimizers;
using Moe.Tests.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

public class ScheduleTests
{
    private const double Peak = 3e-3;

    [Test]
    public void Warm_up_rises_straight_from_above_zero_to_the_peak([Values] Decay decay)
    {
        var schedule = new Schedule(Peak, decay, Steps: 100, WarmupSteps: 4, FinalFraction: 0.1);
        Assert.That(Enumerable.Range(0, 4).Select(step => schedule.At(step) / Peak), Is.EqualTo(new[] { 0.2, 0.4, 0.6, 0.8 }).Within(1e-15));
        Assert.That(schedule.At(4), Is.EqualTo(Peak));
    }

    [TestCase(Decay.Constant, 1)]
    [TestCase(Decay.Linear, 0.1)]
    [TestCase(Decay.Cosine, 0.1)]
    [TestCase(Decay.InverseRoot, 0.1)]
    [TestCase(Decay.Linear, 0)]
    [TestCase(Decay.Cosine, 0)]
    [TestCase(Decay.InverseRoot, 0)]
    public void Last_step_has_exactly_the_final_rate(Decay decay, double final)
    {
        var schedule = new Schedule(Peak, decay, Steps: 37, WarmupSteps: 5, FinalFraction: final);
        Assert.That(schedule.At(36), Is.EqualTo(Peak * final));
        Assert.That(schedule.At(1000), Is.EqualTo(Peak * final));
    }

    [TestCase(Decay.Linear)]
    [TestCase(Decay.Cosine)]
    public void Half_way_down_is_half_of_the_fall(Decay decay)
    {
        var schedule = new Schedule(1, decay, Steps: 21, WarmupSteps: 10, FinalFraction: 0.2);
        Assert.That(schedule.At(15), Is.EqualTo(0.6).Within(1e-15));
    }

    [Test]
    public void Rate_never_rises_after_the_warm_up([Values] Decay decay, [Values(0, 1, 7)] int warmup)
    {
        var schedule = new Schedule(Peak, decay, Steps: 50, WarmupSteps: warmup, FinalFraction: 0.1);
        var rates = Enumerable.Range(warmup, 60).Select(step => schedule.At(step)).ToArray();
        Assert.That(rates, Is.Ordered.Descending.And.All.InRange(Peak * 0.1, Peak));
        Assert.That(rates[0], Is.EqualTo(Peak));
    }

    [Test]
    public void Stable_part_stays_at_the_peak_and_the_last_steps_fall([Values(Decay.Linear, Decay.InverseRoot)] Decay decay, [Values(1, 2, 10, 44)] int fall)
    {
        var schedule = new Schedule(Peak, decay, Steps: 50, WarmupSteps: 5, FinalFraction: 0.02) { DecaySteps = fall };
        Assert.That(Enumerable.Range(5, 45 - fall).Select(step => schedule.At(step)), Is.All.EqualTo(Peak));
        var falling = Enumerable.Range(50 - fall, fall).Select(step => schedule.At(step)).ToArray();
        Assert.That(falling, Is.Ordered.Descending.And.All.LessThan(Peak));
        Assert.That(falling[^1], Is.EqualTo(Peak * 0.02));
    }

    [Test]
    public void Inverse_root_falls_by_half_in_the_first_quarter_of_its_way()
    {
        var schedule = new Schedule(1, Decay.InverseRoot, Steps: 41, WarmupSteps: 0, FinalFraction: 0) { DecaySteps = 20 };
        Assert.That(schedule.At(25), Is.EqualTo(0.5).Within(1e-15));
    }

    [Test]
    public void Whatever_is_configured_stays_between_zero_and_the_peak_and_reaches_both_ends()
    {
        var random = FreshRandom.Create();
        for (var trial = 0; trial < 300; trial++)
        {
            var (steps, decay) = (random.Next(2, 200), (Decay)random.Next(4));
            var (warmup, final) = (random.Next(steps - 1), random.NextDouble());
            var schedule = new Schedule(Peak, decay, steps, warmup, final) { DecaySteps = random.Next(2) == 0 ? null : random.Next(1, steps - warmup) };
            var rates = Enumerable.Range(0, steps + 5).Select(step => schedule.At(step)).ToArray();
            Assert.That(rates, Is.All.InRange(0, Peak), $"{schedule}");
            Assert.That(rates.Max(), Is.EqualTo(Peak), $"{schedule}");
            Assert.That(rates[..(warmup + 1)], Is.Ordered.Ascending, $"{schedule}");
            Assert.That(rates[warmup..], Is.Ordered.Descending, $"{schedule}");
            Assert.That(rates[(steps - 1)..], Is.All.EqualTo(decay == Decay.Constant ? Peak : Peak * final), $"{schedule}");
        }
    }
}

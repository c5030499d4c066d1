using Moe.Optimizers;
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
    [TestCase(Decay.Linear, 0)]
    [TestCase(Decay.Cosine, 0)]
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
}

using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

public class MkorSwitchTests : ScopedTests
{
    private static readonly MkorSwitchOptions Quick = new(Window: 10, Theta: 0.1, Smoothing: 0);

    [Test]
    public void Two_slow_windows_in_a_row_switch_and_one_alone_does_not()
    {
        // Rates of the windows, a step; the first three are the reference.
        double[] rates = [0.1, 0.2, 0.1, 0.01, 0.15, 0.019, 0.019, 0.2];
        Assert.That(StepOfSwitch(new MkorSwitch(Quick), rates), Is.EqualTo(7 * 10));
        Assert.That(StepOfSwitch(new MkorSwitch(Quick), [.. rates.Select(rate => Math.Max(rate, 0.0201))]), Is.Null, "just above a tenth of the best");
    }

    [Test]
    public void Switch_waits_for_its_first_step() =>
        Assert.That(StepOfSwitch(new MkorSwitch(Quick with { MinStep = 75 }), [0.1, 0.1, 0.1, 0, 0, 0, 0, 0]), Is.EqualTo(80));

    [Test]
    public void Windows_begin_behind_the_warm_up()
    {
        // A loss that rises for 7 steps, and then falls as above.
        var decision = new MkorSwitch(Quick with { WarmupSteps = 7 });
        double[] rates = [0.1, 0.2, 0.1, 0.01, 0.01];
        Assert.That(StepOfSwitch(decision, rates, warmup: 6), Is.EqualTo(6 + 50));
    }

    [Test]
    public void Loss_that_never_fell_switches_when_it_rises() =>
        Assert.That(StepOfSwitch(new MkorSwitch(Quick), [-0.1, -0.1, -0.1, 0.1, -0.1, -0.1]), Is.EqualTo(60));

    [Test]
    public void Smoothed_loss_decides_as_the_formula_says()
    {
        var options = new MkorSwitchOptions(Window: 7, Theta: 0.5);
        var decision = new MkorSwitch(options);
        List<double> losses = [];
        long? switched = null;
        for (var step = 0; switched is null && step < 1000; step++)
        {
            losses.Add((5 * Math.Exp(-step / 100.0)) + (0.01 * Random.NextDouble()));
            switched = decision.Observe(step, losses[^1]) is null ? null : step;
        }

        // The running mean after each window, from the definition: 0.98^age shares, the first loss with what is left.
        double Mean(int at) => losses.Take(at + 1).Select((loss, i) => loss * Math.Pow(0.98, at - i) * (i == 0 ? 1 : 0.02)).Sum();
        double Rate(int window) => (Mean((window - 1) * 7) - Mean(window * 7)) / 7;
        var best = Enumerable.Range(1, 3).Max(Rate);
        var expected = Enumerable.Range(5, 200).First(window => Rate(window) < 0.5 * best && Rate(window - 1) < 0.5 * best);
        Assert.That(switched, Is.EqualTo(expected * 7));
    }

    [Test]
    public void Numbers_taken_over_in_mid_run_decide_at_the_same_step([Range(0, 70, 7)] int taken)
    {
        double[] losses = [.. Enumerable.Range(0, 80).Select(step => Math.Exp(-step / 5.0) + (0.001 * Random.NextDouble()))];
        var (whole, first, second) = (new MkorSwitch(Quick), new MkorSwitch(Quick), new MkorSwitch(Quick));
        for (var step = 0; step < losses.Length; step++)
        {
            var one = step < taken ? first : second;
            if (step == taken)
            {
                second.LoadScalars(first.Scalars);
            }

            Assert.That(one.Observe(step, losses[step]), Is.EqualTo(whole.Observe(step, losses[step])));
        }

        Assert.That((whole.IsMade, second.IsMade), Is.EqualTo((true, true)));
    }

    [Test]
    public void Numbers_of_a_run_without_a_switch_are_refused() =>
        Assert.That(() => new MkorSwitch(Quick).LoadScalars(new Dictionary<string, double>()), Throws.ArgumentException.With.Message.Contains("mkor_switch/mean").And.Message.Not.Contains("Parameter"));

    // A loss that falls at these rates, a window each. Steps are counted with the one that decides.
    private static long? StepOfSwitch(MkorSwitch decision, double[] rates, int warmup = 0)
    {
        var (loss, step) = (10.0, 0);
        for (; step < warmup; step++)
        {
            Assert.That(decision.Observe(step, loss += 1), Is.Null);
        }

        Assert.That(decision.Observe(step++, loss), Is.Null, "where the first window begins");
        foreach (var rate in rates)
        {
            for (var i = 0; i < Quick.Window; i++, step++)
            {
                if (decision.Observe(step, loss -= rate) is not null)
                {
                    return step;
                }
            }
        }

        return null;
    }
}

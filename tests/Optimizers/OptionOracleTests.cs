using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

/// <summary>AdaBelief, LAMB and LARS under random combinations of all their options, against the published loops written out plainly.</summary>
public class OptionOracleTests : ScopedTests
{
    private const int Steps = 8;

    private Random _random = null!;

    [Test]
    public void AdaBelief_is_its_published_loop_under_any_options([Range(0, 15)] int draw)
    {
        Seed(draw);
        var o = new AdaBeliefOptions(
            Beta1: 0.8 + (_random.NextDouble() / 10),
            Beta2: Coin() ? 0.999 : 0.7,
            Epsilon: Math.Pow(10, -4 - _random.Next(9)),
            WeightDecay: _random.NextDouble() / 10,
            Decay: Any<DecayForm>(),
            Amsgrad: Coin(),
            Rectify: Coin(),
            DegenerateToSgd: Coin());
        double[] mean = new double[7], variance = new double[7], largest = new double[7];
        Compare(parameters => new AdaBelief(parameters, o), (p, g, rate, _, t) =>
        {
            for (var i = 0; i < p.Length; i++)
            {
                p[i] *= o.Decay == DecayForm.Decoupled ? 1 - (rate * o.WeightDecay) : o.Decay == DecayForm.Fixed ? 1 - o.WeightDecay : 1;
                var gradient = o.Decay == DecayForm.Coupled ? g[i] + (o.WeightDecay * p[i]) : g[i];
                mean[i] += (1 - o.Beta1) * (gradient - mean[i]);
                variance[i] = (o.Beta2 * variance[i]) + ((1 - o.Beta2) * Math.Pow(gradient - mean[i], 2)) + o.Epsilon;
                largest[i] = Math.Max(largest[i], variance[i]);
                p[i] -= rate * AdaBeliefStep(o, mean[i], variance[i], largest[i], t);
            }
        });
    }

    [Test]
    public void Lamb_is_its_published_loop_under_any_options([Range(0, 23)] int draw)
    {
        Seed(draw);
        var o = new LambOptions(
            Beta1: _random.NextDouble(),
            Beta2: _random.NextDouble(),
            WeightDecay: Coin() ? 0 : _random.NextDouble() / 10,
            Decay: Any<LambDecay>(),
            BiasCorrection: Coin(),
            GradientAveraging: Coin(),
            MaxGradientNorm: Coin() ? null : 0.5,
            TrustClip: Coin(),
            AlwaysAdapt: Coin());
        double[] mean = new double[7], square = new double[7];
        Compare(parameters => new Lamb(parameters, o), (p, g, rate, norm, t) =>
        {
            var clip = norm > o.MaxGradientNorm ? norm / o.MaxGradientNorm.Value : 1;
            var direction = new double[p.Length];
            for (var i = 0; i < p.Length; i++)
            {
                var gradient = (g[i] / clip) + (o.Decay == LambDecay.Gradient ? o.WeightDecay * p[i] : 0);
                mean[i] = (o.Beta1 * mean[i]) + ((o.GradientAveraging ? 1 - o.Beta1 : 1) * gradient);
                square[i] = (o.Beta2 * square[i]) + ((1 - o.Beta2) * gradient * gradient);
                direction[i] = o.BiasCorrection
                    ? mean[i] / (1 - Math.Pow(o.Beta1, t)) / (Math.Sqrt(square[i] / (1 - Math.Pow(o.Beta2, t))) + o.Epsilon)
                    : mean[i] / (Math.Sqrt(square[i]) + o.Epsilon);
                direction[i] += o.Decay == LambDecay.Direction ? o.WeightDecay * p[i] : 0;
                p[i] *= o.Decay == LambDecay.Weights ? 1 - (rate * o.WeightDecay) : 1;
            }

            var ratio = (o.WeightDecay != 0 || o.AlwaysAdapt) && Norm(p) > 0 && Norm(direction) > 0 ? Norm(p) / Norm(direction) : 1;
            Descend(p, direction, rate * (o.TrustClip ? Math.Min(1, ratio) : ratio));
        });
    }

    [Test]
    public void Lars_is_its_published_loop_under_any_options([Range(0, 23)] int draw)
    {
        Seed(draw);
        var o = new LarsOptions(
            Momentum: Coin() ? 0 : _random.NextDouble(),
            Dampening: _random.NextDouble(),
            Nesterov: Coin(),
            WeightDecay: Coin() ? 0 : _random.NextDouble() / 10,
            TrustCoefficient: _random.NextDouble(),
            TrustClip: Coin(),
            AlwaysAdapt: Coin(),
            DecayWithoutGradient: Coin());
        double[]? running = null;
        Compare(parameters => new Lars(parameters, o), (p, g, rate, _, _) =>
        {
            var gradient = (double[])g.Clone();
            var both = Norm(p) > 0 && Norm(g) > 0;
            if ((o.WeightDecay != 0 || o.AlwaysAdapt) && (both || o.DecayWithoutGradient))
            {
                var ratio = both ? o.TrustCoefficient * Norm(p) / (Norm(g) + (o.WeightDecay * Norm(p)) + o.Epsilon) : 1;
                ratio = o.TrustClip ? Math.Min(ratio / rate, 1) : ratio;
                gradient = [.. p.Zip(g, (weight, own) => ratio * (own + (o.WeightDecay * weight)))];
            }

            if (o.Momentum > 0)
            {
                running = running is null ? gradient : [.. running.Zip(gradient, (kept, own) => (o.Momentum * kept) + ((1 - o.Dampening) * own))];
                gradient = o.Nesterov ? [.. gradient.Zip(running, (own, kept) => own + (o.Momentum * kept))] : running;
            }

            Descend(p, gradient, rate);
        });
    }

    private static double AdaBeliefStep(AdaBeliefOptions o, double mean, double variance, double largest, int t)
    {
        var (weight1, weight2) = (1 - Math.Pow(o.Beta1, t), 1 - Math.Pow(o.Beta2, t));
        if (!o.Rectify)
        {
            return mean / weight1 / ((Math.Sqrt(o.Amsgrad ? largest : variance) / Math.Sqrt(weight2)) + o.Epsilon);
        }

        var most = (2 / (1 - o.Beta2)) - 1;
        var n = most - (2 * t * Math.Pow(o.Beta2, t) / weight2);
        return n < 5
            ? o.DegenerateToSgd ? mean / weight1 : 0
            : Math.Sqrt(weight2 * (n - 4) / (most - 4) * (n - 2) / n * most / (most - 2)) / weight1 * mean / (Math.Sqrt(variance) + o.Epsilon);
    }

    // A vector whose third gradient is all zeros, beside another that shares the global norm.
    private void Compare(Func<LogicalParameter[], Optimizer> make, Action<double[], double[], double, double, int> oracle)
    {
        LogicalParameter[] parameters = [.. Enumerable.Range(0, 2).Select(i =>
            new LogicalParameter($"p{i}", ParameterKind.Matrix, Tensor.From(Draw()).Clone(), Tensor.Zeros([7], DType.Float64)))];
        using var optimizer = make(parameters);
        var expected = parameters[0].Value.ToArray<double>();
        for (var t = 1; t <= Steps; t++)
        {
            var (gradient, other) = (t == 3 ? new double[7] : Draw(), Draw());
            var rate = 0.02 * t;
            var norm = Norm(gradient.Concat(other));
            parameters[0].Gradient.CopyFrom_(Tensor.From(gradient));
            parameters[1].Gradient.CopyFrom_(Tensor.From(other));
            optimizer.Step(new OptimizerStep(rate, norm));
            oracle(expected, gradient, rate, norm, t);
            Assert.That(parameters[0].Value.ToArray<double>(), Is.EqualTo(expected).Within(1e-11 * expected.Max(Math.Abs)), $"step {t}");
        }
    }

    private static void Descend(double[] values, double[] direction, double rate)
    {
        for (var i = 0; i < values.Length; i++)
        {
            values[i] -= rate * direction[i];
        }
    }

    private static double Norm(IEnumerable<double> values) => Math.Sqrt(values.Sum(value => value * value));

    private double[] Draw() => [.. Enumerable.Range(0, 7).Select(_ => _random.NextDouble() - 0.5)];

    private bool Coin() => _random.Next(2) == 0;

    private T Any<T>()
        where T : struct, Enum => Enum.GetValues<T>()[_random.Next(Enum.GetValues<T>().Length)];

    private void Seed(int draw)
    {
        var seed = HashCode.Combine(Environment.TickCount, draw);
        TestContext.Out.WriteLine($"seed {seed}");
        _random = new Random(seed);
    }
}

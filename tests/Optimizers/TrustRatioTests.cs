using Moe.Optimizers;
using Moe.Tests.Optimizers.Golden;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

/// <summary>What LAMB's and LARS's trust ratios promise.</summary>
public class TrustRatioTests : ScopedTests
{
    [Test]
    public void Lamb_moves_every_matrix_by_the_learning_rate_as_a_share_of_its_norm([Values] LambDecay decay)
    {
        const double Rate = 0.03;
        const double Decay = 0.2;
        LogicalParameter[] parameters = [Drawn(ParameterKind.Matrix, 100, 4, 3), Drawn(ParameterKind.Expert, 1e-3, 5, 8), Drawn(ParameterKind.Head, 1, 7)];
        using var optimizer = new Lamb(parameters, new LambOptions(WeightDecay: Decay, Decay: decay, MaxGradientNorm: null));
        for (var step = 0; step < 4; step++)
        {
            var kept = decay == LambDecay.Weights ? 1 - (Rate * Decay) : 1;
            var before = Array.ConvertAll(parameters, parameter => Array.ConvertAll(parameter.Value.ToArray<double>(), value => kept * value));
            Array.ForEach(parameters, Redraw);
            optimizer.Step(new OptimizerStep(Rate));
            for (var i = 0; i < parameters.Length; i++)
            {
                var moved = parameters[i].Value.ToArray<double>().Zip(before[i], (now, then) => now - then);
                Assert.That(Norm(moved) / Norm(before[i]), Is.EqualTo(Rate).Within(1e-12), parameters[i].Key);
            }
        }
    }

    [Test]
    public void Lamb_steps_norms_as_Adam_does_unless_it_always_adapts([Values] bool always)
    {
        var (adaptive, plain) = (Drawn(ParameterKind.Norm, 1, 9), Drawn(ParameterKind.Norm, 1, 9));
        plain.Value.CopyFrom_(adaptive.Value);
        Redraw(adaptive);
        plain.Gradient.CopyFrom_(adaptive.Gradient);
        using var lamb = new Lamb([adaptive], new LambOptions(Epsilon: 1e-8, MaxGradientNorm: null, AlwaysAdapt: always));
        using var adam = new AdamW([plain], new AdamWOptions(Epsilon: 1e-8));
        lamb.Step(new OptimizerStep(0.1));
        adam.Step(new OptimizerStep(0.1));
        Assert.That(adaptive.Value.ToArray<double>(), always ? Is.Not.EqualTo(plain.Value.ToArray<double>()) : Is.EqualTo(plain.Value.ToArray<double>()).Within(1e-14));
    }

    [Test]
    public void Lamb_takes_gradients_of_any_size_above_its_largest_norm_alike()
    {
        double[] Run(double scale)
        {
            var (value, gradient) = (Tensor.From([1.0, 2, 3]), Tensor.From([scale, -2 * scale, 2 * scale]));
            var parameter = new LogicalParameter("p", ParameterKind.Matrix, value.Clone(), gradient.Clone());
            using var optimizer = new Lamb([parameter], new LambOptions(Epsilon: 0.1, MaxGradientNorm: 0.5));
            optimizer.Step(new OptimizerStep(0.1, GradientNorm: 3 * scale));
            return parameter.Value.ToArray<double>();
        }

        Assert.That(Run(1000), Is.EqualTo(Run(1)).Within(1e-14));
        Assert.That(Run(0.1), Is.Not.EqualTo(Run(1)).Within(1e-3));
    }

    [Test]
    public void Lamb_follows_timm_where_the_matrices_are_the_experts_of_one_stack() => new StackedReplay().Replay(GoldenFolder.ReadOwn("lamb-per-expert.json"));

    [Test]
    public void Lars_moves_every_matrix_by_the_trust_coefficient_as_a_share_of_its_norm()
    {
        LogicalParameter[] parameters = [Drawn(ParameterKind.Matrix, 100, 4, 3), Drawn(ParameterKind.Expert, 1e-3, 5, 8)];
        using var optimizer = new Lars(parameters, new LarsOptions(TrustCoefficient: 0.02, Epsilon: 1e-300, AlwaysAdapt: true));
        var before = Array.ConvertAll(parameters, parameter => parameter.Value.ToArray<double>());
        Array.ForEach(parameters, Redraw);
        optimizer.Step(new OptimizerStep(0.5));
        for (var i = 0; i < parameters.Length; i++)
        {
            var moved = parameters[i].Value.ToArray<double>().Zip(before[i], (now, then) => now - then);
            Assert.That(Norm(moved) / Norm(before[i]), Is.EqualTo(0.5 * 0.02).Within(1e-12), parameters[i].Key);
        }
    }

    [Test]
    public void Weights_without_gradient_decay_under_Lars_and_stay_under_Larc([Values] bool decays)
    {
        var parameter = new LogicalParameter("p", ParameterKind.Matrix, Tensor.From(new double[] { 4, -2 }).Clone(), Tensor.Zeros([2], DType.Float64));
        using var optimizer = new Lars([parameter], new LarsOptions(WeightDecay: 0.5, AlwaysAdapt: true, DecayWithoutGradient: decays));
        optimizer.Step(new OptimizerStep(0.5));
        Assert.That(parameter.Value.ToArray<double>(), Is.EqualTo(decays ? new double[] { 3, -1.5 } : [4, -2]));
    }

    private LogicalParameter Drawn(ParameterKind kind, double scale, params long[] shape) =>
        new($"{kind}", kind, Tensor.From(Draw(shape, scale), shape).Clone(), Tensor.Zeros(shape, DType.Float64));

    private void Redraw(LogicalParameter parameter) => parameter.Gradient.CopyFrom_(Tensor.From(Draw(parameter.Value.Shape, 1), parameter.Value.Shape));

    private double[] Draw(long[] shape, double scale) =>
        [.. Enumerable.Range(0, (int)shape.Aggregate((x, y) => x * y)).Select(_ => scale * (Random.NextDouble() - 0.5))];

    private static double Norm(IEnumerable<double> values) => Math.Sqrt(values.Sum(value => value * value));

    private sealed class StackedReplay : LambReplay
    {
        protected override LogicalParameter[] Parameters(GoldenFile file)
        {
            long[] shape = [file.Parameters.Count, .. file.Parameters[0].Shape];
            var value = Tensor.From([.. file.Parameters.SelectMany(parameter => parameter.Initial)], shape).Clone();
            var stack = new Parameter("experts.down", value, ParameterKind.Expert, [.. Enumerable.Range(0, (int)shape[0])]);
            return [.. LogicalParameter.Of(stack, Tensor.Zeros(shape, DType.Float64))];
        }
    }
}

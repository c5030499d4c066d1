using Moe.Distributed;
using Moe.Optimizers;
using Moe.Tests.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

/// <summary>What MKOR promises beside the published runs: experts, ranks' sums, and what it does where the published program breaks.</summary>
public class MkorTests : ScopedTests
{
    private static readonly MkorOptions EveryStep = new(InverseFrequency: 1, MinTokens: 1);

    [Test]
    public void Experts_move_like_matrices_of_their_own()
    {
        const int Experts = 4;
        using var stacked = new MkorLayers(EveryStep, MkorLayers.Experts("experts", Experts, 3, 5));
        var single = Enumerable.Range(0, Experts).Select(_ => new MkorLayers(EveryStep, MkorLayers.Experts("experts", 1, 3, 5))).ToArray();
        for (var step = 0; step < 5; step++)
        {
            long[] rows = [.. Enumerable.Range(0, Experts).Select(_ => (long)Random.Next(4))];
            var (x, dy) = (Random.Normal([rows.Sum(), 5]), Random.Normal([rows.Sum(), 3]));
            var gradients = Enumerable.Range(0, Experts).Select(_ => Random.Normal([3, 5])).ToArray();
            stacked.Step(parameter => parameter.RowSums!.Add(x, dy, rows), logical => gradients[logical.Expert!.Value]);
            foreach (var (expert, alone) in single.Index())
            {
                var (mine, theirs) = (x.Split(rows)[expert], dy.Split(rows)[expert]);
                alone.Step(parameter => parameter.RowSums!.Add(mine, theirs, [rows[expert]]), _ => gradients[expert]);
                Assert.That(Oracle.Difference(stacked.Logical[expert].Value, alone.Logical[0].Value), Is.LessThan(1e-13), $"expert {expert}");
            }
        }

        Array.ForEach(single, alone => alone.Dispose());
    }

    [Test]
    public void Fused_matrices_share_the_input_factor_and_have_output_factors_of_their_own()
    {
        using var fused = new MkorLayers(EveryStep, new Parameter(
            "ffn.gate_up", Tensor.Zeros([7, 4], DType.Float64), ParameterKind.Matrix, parts: [new("gate", 0, 3), new("up", 3, 4)]));
        using var apart = new MkorLayers(EveryStep, MkorLayers.Dense("ffn.gate", 3, 4), MkorLayers.Dense("ffn.up", 4, 4));
        for (var step = 0; step < 4; step++)
        {
            var (x, dy, gradient) = (Random.Normal([6, 4]), Random.Normal([6, 7]), Random.Normal([7, 4]));
            Tensor Part(string key, Tensor whole, int dimension) => key == "ffn.gate" ? whole.Narrow(dimension, 0, 3) : whole.Narrow(dimension, 3, 4);
            fused.Step(parameter => parameter.RowSums!.Add(x, dy, [6]), logical => Part(logical.Key, gradient, 0));
            apart.Step(parameter => parameter.RowSums!.Add(x, Part(parameter.Name, dy, 1), [6]), logical => Part(logical.Key, gradient, 0));
        }

        foreach (var logical in fused.Logical)
        {
            Assert.That(Oracle.Difference(logical.Value, apart.Logical.Single(other => other.Key == logical.Key).Value), Is.LessThan(1e-13), logical.Key);
        }

        Assert.That(
            fused.Mkor.State.Select(state => (state.Name, state.Key)),
            Is.EquivalentTo(new[] { ("steps", "ffn.gate"), ("steps", "ffn.up"), ("mkor_updates", "ffn.gate_up"), ("mkor_input", "ffn.gate_up"), ("mkor_output", "ffn.gate"), ("mkor_output", "ffn.up") }));
    }

    [Test]
    public void Mean_is_over_all_rows_however_unevenly_they_come()
    {
        using var whole = new MkorLayers(EveryStep, MkorLayers.Dense("layer", 3, 5));
        using var parts = new MkorLayers(EveryStep, MkorLayers.Dense("layer", 3, 5));
        for (var step = 0; step < 3; step++)
        {
            var (x, dy) = (Random.Normal([9, 5]), Random.Normal([9, 3]));
            whole.Step(parameter => parameter.RowSums!.Add(x, dy, [9]));
            parts.Step(parameter =>
            {
                parameter.RowSums!.Add(x.Narrow(0, 0, 2), dy.Narrow(0, 0, 2), [2]);
                parameter.RowSums!.Add(x.Narrow(0, 2, 7), dy.Narrow(0, 2, 7), [7]);
            });
        }

        Assert.That(Oracle.Difference(parts.State("mkor_input", "layer"), whole.State("mkor_input", "layer")), Is.LessThan(1e-14));
        Assert.That(Oracle.Difference(parts.State("mkor_output", "layer"), whole.State("mkor_output", "layer")), Is.LessThan(1e-14));
    }

    [Test]
    public void Expert_with_few_tokens_keeps_its_factors_and_steps_first_order()
    {
        using var layers = new MkorLayers(EveryStep with { MinTokens = 3 }, MkorLayers.Experts("experts", 3, 2, 4));
        var gradient = Random.Normal([2, 4]);
        for (var step = 0; step < 4; step++)
        {
            layers.Step(parameter => parameter.RowSums!.Add(Random.Normal([6, 4]), Random.Normal([6, 2]), [0, 2, 4]), _ => gradient);
        }

        for (var expert = 0; expert < 2; expert++)
        {
            Assert.That(Oracle.Difference(layers.State("mkor_input", $"{expert}.experts"), Identity(4)), Is.Zero);
            Assert.That(layers.State("mkor_updates", $"{expert}.experts").Item(), Is.Zero);
            Assert.That(Oracle.Difference(layers.Logical[expert].Value, gradient * -4), Is.LessThan(1e-14), "four plain steps");
        }

        Assert.That(layers.State("mkor_updates", "2.experts").Item(), Is.EqualTo(4));
        Assert.That(Oracle.Difference(layers.State("mkor_input", "2.experts"), Identity(4)), Is.GreaterThan(0.01));
        Assert.That(Oracle.Difference(layers.Logical[2].Value, gradient * -4), Is.GreaterThan(1e-3));
    }

    [Test]
    public void Expert_with_less_than_the_mean_load_forgets_and_learns_by_its_share([Values] bool isExact)
    {
        var options = EveryStep with { MeanExpertRows = 8, Rule = isExact ? MkorRule.Exact : MkorRule.Code };
        using var layers = new MkorLayers(options, MkorLayers.Experts("experts", 1, 2, 3));
        var mean = new double[3];
        var expected = Identity(3);
        for (var step = 0; step < 4; step++)
        {
            var x = Random.Normal([2, 3]);
            layers.Step(parameter => parameter.RowSums!.Add(x, Random.Normal([2, 2]), [2]));
            mean = x.Mean(0).ToArray<double>();

            // A quarter of the mean load, by the definitions: factors are inverted, changed and inverted back.
            if (isExact)
            {
                var gamma = Math.Pow(0.95, 0.25);
                expected = Inverse(Plus(Inverse(expected), gamma, mean, 1 - gamma));
            }
            else if (step > 0)
            {
                var blend = (expected * (1 - (0.05 / 4))) + (Identity(3) * (0.05 / 4));
                expected = Inverse(Plus(Inverse(blend), 1, mean, 0.25));
            }

            Assert.That(Oracle.Difference(layers.State("mkor_input", "0.experts"), expected), Is.LessThan(1e-11), $"step {step}");
        }
    }

    [Test]
    public void Without_rows_nothing_becomes_NaN()
    {
        using var layers = new MkorLayers(EveryStep, MkorLayers.Experts("experts", 2, 3, 4, DType.Float32));
        for (var step = 0; step < 10; step++)
        {
            layers.Step(step % 2 == 0 ? null : parameter => parameter.RowSums!.Add(Random.Normal([3, 4]), Random.Normal([3, 3]), [0, 3]));
        }

        Assert.That(layers.Mkor.State.Select(state => state.Value.IsFinite().All().Item()), Is.All.EqualTo(1));
        Assert.That(layers.Logical.Select(logical => logical.Value.Abs().Max().Item()), Is.All.Zero);
    }

    [Test]
    public void Skipped_matrices_and_steps_between_updates_collect_nothing()
    {
        using var layers = new MkorLayers(
            new MkorOptions(InverseFrequency: 3, WarmupSteps: 2, Skip: ["*.head"]), MkorLayers.Dense("a.body", 2, 2), MkorLayers.Dense("a.head", 2, 2));
        List<string> collected = [];
        for (var step = 0; step < 7; step++)
        {
            layers.Step(parameter =>
            {
                collected.Add($"{step} {parameter.Name}");
                parameter.RowSums!.Add(Random.Normal([1, 2]), Random.Normal([1, 2]), [1]);
            });
        }

        Assert.That(collected, Is.EqualTo(new[] { "0 a.body", "1 a.body", "3 a.body", "6 a.body" }));
        Assert.That(layers.Mkor.State.Where(state => state.Name.StartsWith("mkor", StringComparison.Ordinal)).Select(state => state.Key), Is.All.EqualTo("a.body"));
    }

    [Test]
    public void Layer_that_never_ran_is_refused_by_name()
    {
        using var layers = new MkorLayers(EveryStep, MkorLayers.Dense("layers.0.idle", 2, 2));
        Assert.That(() => layers.Step(), Throws.InvalidOperationException.With.Message.Contains("'layers.0.idle'").And.Message.Contains("optimizer.mkor.skip"));
    }

    [Test]
    public void Parts_of_one_matrix_that_others_step_are_refused()
    {
        using var whole = new MkorLayers(EveryStep, new Parameter(
            "ffn.gate_up", Tensor.Zeros([4, 4]), ParameterKind.Matrix, parts: [new("gate", 0, 2), new("up", 2, 2)]));
        using var mesh = new DeviceMesh(new SingleProcessGroup(TimeSpan.FromSeconds(1)), 1);
        LogicalParameter[] half = [whole.Logical[0]];
        using var inner = new Sgd(half, new SgdOptions());
        Assert.That(
            () => new Mkor(whole.Parameters, half, inner, new ParameterPlacement(mesh), EveryStep),
            Throws.ArgumentException.With.Message.Contains("ffn.gate"));
    }

    [Test]
    public void A_step_makes_as_many_calls_for_many_matrices_as_for_two()
    {
        long Calls(int experts)
        {
            var (x, dy) = (Random.Normal([experts, 5]), Random.Normal([experts, 3]));
            long[] one = new long[experts];
            Array.Fill(one, 1);
            using var layers = new MkorLayers(EveryStep, MkorLayers.Experts("experts", experts, 3, 5));
            layers.Step(parameter => parameter.RowSums!.Add(x, dy, one));
            var ones = Tensor.Ones([3, 5], DType.Float64);
            layers.Mkor.Begin(1);
            layers.Parameters[0].RowSums!.Add(x, dy, one);
            foreach (var logical in layers.Logical)
            {
                logical.Gradient.CopyFrom_(ones);
            }

            var before = Operator.Calls;
            layers.Mkor.Step(new OptimizerStep(1));
            return Operator.Calls - before;
        }

        Assert.That(Calls(300), Is.EqualTo(Calls(2)).And.LessThanOrEqualTo(80));
    }

    [Test]
    public void Steps_leave_no_tensor_behind()
    {
        using var layers = new MkorLayers(EveryStep, MkorLayers.Experts("experts", 3, 2, 4));
        var (x, dy) = (Random.Normal([6, 4]), Random.Normal([6, 2]));
        var before = Tensor.LiveCount;
        using (var scope = new TensorScope())
        {
            for (var step = 0; step < 4; step++)
            {
                layers.Step(parameter => parameter.RowSums!.Add(x, dy, [2, 0, 4]));
            }
        }

        Assert.That(Tensor.LiveCount, Is.EqualTo(before));
    }

    private static Tensor Identity(int size) =>
        Tensor.From([.. Enumerable.Range(0, size * size).Select(i => i / size == i % size ? 1.0 : 0)], size, size);

    // scale F + share v v^T
    private static Tensor Plus(Tensor f, double scale, double[] v, double share) =>
        (f * scale) + (Tensor.From(v).View(-1, 1) * Tensor.From(v) * share);

    // By Gauss and Jordan without pivots: what comes here is positive definite.
    private static Tensor Inverse(Tensor f)
    {
        var n = (int)f.Size(0);
        var (a, b) = (f.ToArray<double>(), Identity(n).ToArray<double>());
        for (var k = 0; k < n; k++)
        {
            var pivot = a[(k * n) + k];
            for (var j = 0; j < n; j++)
            {
                (a[(k * n) + j], b[(k * n) + j]) = (a[(k * n) + j] / pivot, b[(k * n) + j] / pivot);
            }

            for (var i = 0; i < n; i++)
            {
                var factor = a[(i * n) + k];
                for (var j = 0; i != k && j < n; j++)
                {
                    a[(i * n) + j] -= factor * a[(k * n) + j];
                    b[(i * n) + j] -= factor * b[(k * n) + j];
                }
            }
        }

        return Tensor.From(b, n, n);
    }
}

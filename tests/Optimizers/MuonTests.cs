using Moe.Optimizers;
using Moe.Tests.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

public class MuonTests : ScopedTests
{
    [Test]
    public void Native_calls_grow_with_the_shapes_and_not_with_the_parameters()
    {
        long Calls(int alike, params (long Rows, long Columns)[] shapes)
        {
            using var optimizer = new Muon([.. Enumerable.Range(0, alike).SelectMany(_ => shapes.Select(shape => Matrix(shape.Rows, shape.Columns)))], new());
            var before = Operator.Calls;
            optimizer.Step(new OptimizerStep(0.1));
            return Operator.Calls - before;
        }

        var one = Calls(1, (4, 6));
        Assert.That(Calls(200, (4, 6)), Is.EqualTo(one).And.LessThanOrEqualTo(30));
        Assert.That(Calls(200, (4, 6), (6, 4), (8, 8)), Is.LessThanOrEqualTo(3 * one));
    }

    [Test]
    public void Steps_leave_no_tensor_behind()
    {
        using var optimizer = new Muon([Matrix(4, 6), Matrix(6, 4)], MuonOptions.Dion);
        var before = Tensor.LiveCount;
        for (var step = 0; step < 20; step++)
        {
            optimizer.Step(new OptimizerStep(0.1));
        }

        Assert.That(Tensor.LiveCount, Is.EqualTo(before));
    }

    [Test]
    public void Permuting_experts_permutes_the_results_to_the_bit([Values(DType.Float64, DType.Float32, DType.BFloat16)] DType precision)
    {
        var experts = Enumerable.Range(0, 7).Select(i => Matrix(24, 40, expert: i)).ToArray();
        var order = Enumerable.Range(0, 7).ToArray();
        Random.Shuffle(order);
        var permuted = Array.ConvertAll(order, i => Copy(experts[i]));
        var options = MuonOptions.Moonlight with { Direction = NewtonSchulz.Keller with { Precision = precision } };
        using var optimizer = new Muon(experts, options);
        using var other = new Muon(permuted, options);
        for (var step = 0; step < 3; step++)
        {
            Renew(experts);
            for (var i = 0; i < order.Length; i++)
            {
                permuted[i].Gradient.CopyFrom_(experts[order[i]].Gradient);
            }

            optimizer.Step(new OptimizerStep(0.1));
            other.Step(new OptimizerStep(0.1));
        }

        for (var i = 0; i < order.Length; i++)
        {
            Assert.That(permuted[i].Value.ToArray<double>(), Is.EqualTo(experts[order[i]].Value.ToArray<double>()), $"expert {order[i]}");
        }
    }

    [Test]
    public void Matrices_stepped_together_move_as_each_does_alone()
    {
        LogicalParameter[] together = [Matrix(5, 9), Matrix(9, 5), Matrix(5, 9), Matrix(1, 4), Matrix(9, 5)];
        var alone = Array.ConvertAll(together, Copy);
        Renew(together);
        using var optimizer = new Muon(together, MuonOptions.Torch);
        optimizer.Step(new OptimizerStep(0.1));
        for (var i = 0; i < together.Length; i++)
        {
            alone[i].Gradient.CopyFrom_(together[i].Gradient);
            using var single = new Muon([alone[i]], MuonOptions.Torch);
            single.Step(new OptimizerStep(0.1));
            Assert.That(alone[i].Value.ToArray<double>(), Is.EqualTo(together[i].Value.ToArray<double>()), $"matrix {i}");
        }
    }

    [Test]
    public void An_idle_expert_stands_still_when_skipped_and_takes_a_stale_step_of_full_size_as_published()
    {
        var skipped = Run(IdlePolicy.Skip);
        var published = Run(IdlePolicy.Reference);
        Assert.That(skipped.Moved, Is.Zero);
        Assert.That(skipped.MomentumMoved, Is.Zero);
        Assert.That(published.MomentumMoved, Is.GreaterThan(0));
        Assert.That(published.Moved, Is.GreaterThan(0.6 * published.BusyMoved));

        (double Moved, double MomentumMoved, double BusyMoved) Run(IdlePolicy idle)
        {
            LogicalParameter[] experts = [Matrix(8, 12, expert: 0), Matrix(8, 12, expert: 1)];
            using var optimizer = new Muon(experts, MuonOptions.Keller with { Idle = idle, WeightDecay = 0 });
            Renew(experts);
            optimizer.Step(new OptimizerStep(0.1));
            var before = Array.ConvertAll(experts, expert => expert.Value.Clone());
            var momentum = optimizer.State.Last(state => state.Name == "momentum");
            var momentumBefore = momentum.Value.Clone();
            experts[1].Gradient.Zero_();
            for (var step = 0; step < 3; step++)
            {
                optimizer.Step(new OptimizerStep(0.1, IsIdle: parameter => parameter.Expert == 1));
            }

            return (
                (experts[1].Value - before[1]).Norm().Item(),
                (momentum.Value - momentumBefore).Norm().Item(),
                (experts[0].Value - before[0]).Norm().Item());
        }
    }

    [Test]
    public void A_step_has_the_size_that_the_scale_says()
    {
        var options = MuonOptions.Keller with { Direction = NewtonSchulz.Keller with { Steps = 30, Table = [new(1.5, -0.5, 0)] } }; // converges to 1
        foreach (var (rows, columns) in new[] { (6L, 24L), (24L, 6L), (10L, 10L) })
        {
            foreach (var (scale, factor) in new[]
            {
                (MuonScale.Keller, Math.Sqrt(Math.Max(1.0, (double)rows / columns))),
                (MuonScale.MatchRms, 0.2 * Math.Sqrt(Math.Max(rows, columns))),
                (MuonScale.Spectral, Math.Sqrt((double)rows / columns)),
                (MuonScale.None, 1.0),
            })
            {
                var matrix = Matrix(rows, columns);
                Renew([matrix]);
                var before = matrix.Value.Clone();
                using var optimizer = new Muon([matrix], options with { Scale = scale });
                optimizer.Step(new OptimizerStep(0.25));
                var moved = (matrix.Value - before).SingularValues().Values.ToArray<double>();
                Assert.That(moved.Max(), Is.EqualTo(0.25 * factor).Within(1e-6), $"{scale} of {rows} x {columns}");
            }
        }
    }

    [Test]
    public void Decay_is_taken_off_the_weight_in_the_form_that_is_asked_for([Values] DecayForm form)
    {
        var matrix = Matrix(3, 5);
        var before = matrix.Value.Clone();
        using var optimizer = new Muon([matrix], MuonOptions.Keller with { WeightDecay = 0.1, Decay = form });
        optimizer.Step(new OptimizerStep(0.5));
        var expected = form switch
        {
            DecayForm.Decoupled => before * (1 - (0.5 * 0.1)),
            DecayForm.Fixed => before * 0.9,
            _ => before - (NewtonSchulz.Keller.Orthogonalize(before) * 0.5), // the decay is all the gradient there is
        };
        Assert.That(Oracle.Difference(matrix.Value, expected), Is.LessThan(1e-4));
    }

    [Test]
    public void A_vector_is_refused_by_name([Values(1, 3)] int rank)
    {
        var shape = Enumerable.Repeat(4L, rank).ToArray();
        var vector = new LogicalParameter("layers.2.attention_norm", ParameterKind.Norm, Tensor.Ones(shape), Tensor.Zeros(shape));
        Assert.That(
            () => new Muon([Matrix(2, 2), vector], new()), Throws.ArgumentException.With.Message.Contains("'layers.2.attention_norm' has the shape [4"));
    }

    [Test]
    public void Bfloat16_weights_take_the_step_of_float32_with_momentum_in_float32()
    {
        var start = Random.Normal([16, 24], dtype: DType.BFloat16);
        var gradient = Random.Normal([16, 24], dtype: DType.Float32);
        var coarse = new LogicalParameter("coarse", ParameterKind.Matrix, start.Clone(), gradient.Clone());
        var exact = new LogicalParameter("exact", ParameterKind.Matrix, start.To(DType.Float32), gradient.Clone());
        using var optimizer = new Muon([coarse], MuonOptions.Moonlight);
        using var reference = new Muon([exact], MuonOptions.Moonlight);
        optimizer.Step(new OptimizerStep(0.1));
        reference.Step(new OptimizerStep(0.1));
        Assert.That(optimizer.State.Single(state => state.Name == "momentum").Value.DType, Is.EqualTo(DType.Float32));
        Assert.That(coarse.Value.ToArray<BFloat16>(), Is.EqualTo(exact.Value.To(DType.BFloat16).ToArray<BFloat16>()));
    }

    private LogicalParameter Matrix(long rows, long columns, int? expert = null) => new(
        FormattableString.Invariant($"m{expert}"),
        expert is null ? ParameterKind.Matrix : ParameterKind.Expert,
        Random.Normal([rows, columns]),
        Tensor.Zeros([rows, columns], DType.Float64),
        0,
        expert);

    private static LogicalParameter Copy(LogicalParameter parameter) =>
        new(parameter.Key, parameter.Kind, parameter.Value.Clone(), parameter.Gradient.Clone(), parameter.Layer, parameter.Expert);

    private void Renew(LogicalParameter[] parameters)
    {
        foreach (var parameter in parameters)
        {
            parameter.Gradient.CopyFrom_(Random.Normal(parameter.Value.Shape));
        }
    }
}

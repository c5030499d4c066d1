using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

public class OptimizerTests : ScopedTests
{
    [TestCaseSource(typeof(AnyOptimizer), nameof(AnyOptimizer.Names))]
    public void State_taken_over_in_mid_run_continues_with_the_same_bits(string name)
    {
        var seed = Environment.TickCount;
        TestContext.Out.WriteLine($"seed {seed}");
        var (whole, first, second) = (Drawn(seed), Drawn(seed), Drawn(seed));
        using var uninterrupted = AnyOptimizer.Make(name, whole);
        using var before = AnyOptimizer.Make(name, first);
        using var after = AnyOptimizer.Make(name, second);
        Take(seed, whole, uninterrupted, 0, 10);
        Take(seed, first, before, 0, 4);
        foreach (var (from, to) in before.State.Zip(after.State))
        {
            Assert.That((to.Name, to.Key), Is.EqualTo((from.Name, from.Key)));
            to.Value.CopyFrom_(from.Value);
        }

        foreach (var (from, to) in first.Zip(second))
        {
            to.Value.CopyFrom_(from.Value);
        }

        after.LoadScalars(before.Scalars);
        Take(seed, second, after, 4, 10);
        for (var i = 0; i < whole.Length; i++)
        {
            Assert.That(second[i].Value.ToArray<float>(), Is.EqualTo(whole[i].Value.ToArray<float>()));
        }
    }

    [TestCaseSource(typeof(AnyOptimizer), nameof(AnyOptimizer.Names))]
    public void A_step_calls_as_many_operators_for_many_parameters_as_for_one(string name)
    {
        long Calls(int count)
        {
            LogicalParameter[] parameters = [.. Enumerable.Range(0, count).Select(i => Zero($"p{i}", ParameterKind.Matrix))];
            using var optimizer = AnyOptimizer.Make(name, parameters);
            var before = Operator.Calls;
            optimizer.Step(new OptimizerStep(0.1));
            return Operator.Calls - before;
        }

        Assert.That(Calls(300), Is.EqualTo(Calls(1)).And.LessThanOrEqualTo(10));
    }

    [TestCaseSource(typeof(AnyOptimizer), nameof(AnyOptimizer.Names))]
    public void Steps_leave_no_tensor_behind(string name)
    {
        using var optimizer = AnyOptimizer.Make(name, [Zero("p", ParameterKind.Matrix)]);
        var before = Tensor.LiveCount;
        for (var step = 0; step < 20; step++)
        {
            optimizer.Step(new OptimizerStep(0.1));
        }

        Assert.That(Tensor.LiveCount, Is.EqualTo(before));
    }

    [Test]
    public void Norms_keep_their_size_and_all_other_kinds_decay([Values] ParameterKind kind)
    {
        var parameter = Zero("p", kind, value: 8);
        using var optimizer = new Sgd([parameter], new SgdOptions(Momentum: 0, WeightDecay: 0.5));
        optimizer.Step(new OptimizerStep(0.5));
        Assert.That(parameter.Value.Detach().ToArray<float>(), Is.All.EqualTo(kind == ParameterKind.Norm ? 8f : 6f));
    }

    [TestCaseSource(typeof(AnyOptimizer), nameof(AnyOptimizer.Names))]
    public void State_of_bfloat16_weights_is_float32_and_the_step_is_that_of_float32(string name)
    {
        var random = new Random(3);
        double[] Draw() => [.. Enumerable.Range(0, 64).Select(_ => random.NextDouble() - 0.5)];
        var start = Tensor.From(Draw()).To(DType.BFloat16);
        var gradient = Tensor.From(Draw()).To(DType.BFloat16);
        var coarse = new LogicalParameter("coarse", ParameterKind.Matrix, start.Clone(), gradient);
        var exact = new LogicalParameter("exact", ParameterKind.Matrix, start.To(DType.Float32), gradient.To(DType.Float32));
        using var optimizer = AnyOptimizer.Make(name, [coarse]);
        using var reference = AnyOptimizer.Make(name, [exact]);
        optimizer.Step(new OptimizerStep(0.1));
        reference.Step(new OptimizerStep(0.1));
        Assert.That(optimizer.State.Where(state => state.Name != "steps").Select(state => state.Value.DType), Is.All.EqualTo(DType.Float32));
        Assert.That(
            coarse.Value.Detach().To(DType.Float32).ToArray<float>(),
            Is.EqualTo(exact.Value.Detach().ToArray<float>()).Within(0.005)); // two roundings to 8 bits, of values below 1
    }

    private static LogicalParameter Zero(string name, ParameterKind kind, double value = 0) =>
        new(name, kind, Tensor.Full([3], value), Tensor.Zeros([3]));

    private static LogicalParameter[] Drawn(int seed)
    {
        var random = new Random(seed);
        return [.. new long[][] { [8, 5], [7], [3, 4] }.Select((shape, i) => new LogicalParameter(
            $"p{i}", ParameterKind.Matrix, Tensor.From(Draw(random, shape), shape).Clone(), Tensor.Zeros(shape)))];
    }

    private static float[] Draw(Random random, long[] shape) => [.. Enumerable.Range(0, (int)shape.Aggregate((x, y) => x * y)).Select(_ => random.NextSingle() - 0.5f)];

    private static void Take(int seed, LogicalParameter[] parameters, Optimizer optimizer, int from, int to)
    {
        for (var step = from; step < to; step++)
        {
            var random = new Random(HashCode.Combine(seed, step));
            foreach (var parameter in parameters)
            {
                parameter.Gradient.CopyFrom_(Tensor.From(Draw(random, parameter.Value.Shape), parameter.Value.Shape));
            }

            optimizer.Begin(step);
            optimizer.Step(new OptimizerStep(0.1, GradientNorm: 3));
        }
    }
}

using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

public class OptimizerTests
{
    private TensorScope _scope = null!;

    [SetUp]
    public void Open() => _scope = new TensorScope();

    [TearDown]
    public void Close() => _scope.Dispose();

    [TestCase("adamw-default")]
    [TestCase("adamw-float32")]
    [TestCase("adamw-idle-expert")]
    [TestCase("adamw-lrschedule")]
    [TestCase("adamw-nowd-b095-eps1e-5")]
    public void AdamW_follows_PyTorch(string name)
    {
        var golden = OptimizerGolden.Read(name);
        var parameters = golden.Parameters();
        using var optimizer = new AdamW(
            parameters,
            new AdamWOptions(golden.Beta(0), golden.Beta(1), golden.Number("eps", 0), golden.Number("weight_decay", 0)));
        Follow(golden, parameters, optimizer);
    }

    [TestCase("sgd-plain")]
    [TestCase("sgd-momentum")]
    [TestCase("sgd-momentum-dampening-wd")]
    [TestCase("sgd-nesterov-wd")]
    public void Sgd_follows_PyTorch(string name)
    {
        var golden = OptimizerGolden.Read(name);
        var parameters = golden.Parameters();
        using var optimizer = new Sgd(
            parameters,
            new SgdOptions(
                golden.Number("momentum", 0), golden.Number("dampening", 0), golden.Flag("nesterov"), golden.Number("weight_decay", 0), DecayForm.Coupled));
        Follow(golden, parameters, optimizer);
    }

    [TestCase("adamw")]
    [TestCase("sgd")]
    public void State_taken_over_in_mid_run_continues_with_the_same_bits(string name)
    {
        var golden = OptimizerGolden.Read($"{name}-{(name == "adamw" ? "default" : "momentum")}");
        var (whole, first, second) = (golden.Parameters(), golden.Parameters(), golden.Parameters());
        using var uninterrupted = Make(name, whole);
        using var before = Make(name, first);
        using var after = Make(name, second);
        Take(golden, whole, uninterrupted, 0, 10);
        Take(golden, first, before, 0, 4);
        foreach (var (from, to) in before.State.Zip(after.State))
        {
            Assert.That((to.Name, to.Key), Is.EqualTo((from.Name, from.Key)));
            to.Value.CopyFrom_(from.Value);
        }

        using (Autograd.NoGrad())
        {
            foreach (var (from, to) in first.Zip(second))
            {
                to.Value.CopyFrom_(from.Value);
            }
        }

        Take(golden, second, after, 4, 10);
        for (var i = 0; i < whole.Length; i++)
        {
            Assert.That(second[i].Value.Detach().ToArray<double>(), Is.EqualTo(whole[i].Value.Detach().ToArray<double>()));
        }
    }

    [TestCase("adamw")]
    [TestCase("sgd")]
    public void A_step_calls_as_many_operators_for_many_parameters_as_for_one(string name)
    {
        long Calls(int count)
        {
            LogicalParameter[] parameters = [.. Enumerable.Range(0, count).Select(i => Zero($"p{i}", ParameterKind.Matrix))];
            using var optimizer = Make(name, parameters);
            var before = Operator.Calls;
            optimizer.Step(new OptimizerStep(0.1));
            return Operator.Calls - before;
        }

        Assert.That(Calls(300), Is.EqualTo(Calls(1)).And.LessThanOrEqualTo(10));
    }

    [TestCase("adamw")]
    [TestCase("sgd")]
    public void Steps_leave_no_tensor_behind(string name)
    {
        using var optimizer = Make(name, [Zero("p", ParameterKind.Matrix)]);
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

    [Test]
    public void Moments_of_bfloat16_weights_are_float32_and_the_step_is_that_of_float32()
    {
        var random = new Random(3);
        double[] Draw() => [.. Enumerable.Range(0, 64).Select(_ => random.NextDouble() - 0.5)];
        var start = Tensor.From(Draw()).To(DType.BFloat16);
        var gradient = Tensor.From(Draw()).To(DType.BFloat16);
        var coarse = new LogicalParameter("coarse", ParameterKind.Matrix, start.Clone(), gradient);
        var exact = new LogicalParameter("exact", ParameterKind.Matrix, start.To(DType.Float32), gradient.To(DType.Float32));
        using var optimizer = new AdamW([coarse], new AdamWOptions());
        using var reference = new AdamW([exact], new AdamWOptions());
        optimizer.Step(new OptimizerStep(0.1));
        reference.Step(new OptimizerStep(0.1));
        Assert.That(optimizer.State.Where(state => state.Name != "steps").Select(state => state.Value.DType), Is.All.EqualTo(DType.Float32));
        Assert.That(
            coarse.Value.Detach().To(DType.Float32).ToArray<float>(),
            Is.EqualTo(exact.Value.Detach().ToArray<float>()).Within(0.005)); // two roundings to 8 bits, of values below 1
    }

    private static Optimizer Make(string name, LogicalParameter[] parameters) => name == "adamw"
        ? new AdamW(parameters, new AdamWOptions())
        : new Sgd(parameters, new SgdOptions(Momentum: 0.9, Dampening: 0.2, WeightDecay: 0.1));

    private static LogicalParameter Zero(string name, ParameterKind kind, double value = 0) =>
        new(name, kind, Tensor.Full([3], value), Tensor.Zeros([3]));

    private static void Take(OptimizerGolden golden, LogicalParameter[] parameters, Optimizer optimizer, int from, int to)
    {
        for (var step = from; step < to; step++)
        {
            for (var i = 0; i < parameters.Length; i++)
            {
                parameters[i].Gradient.CopyFrom_(golden.Gradient(step, i));
            }

            optimizer.Step(new OptimizerStep(golden.LearningRate(step)));
        }
    }

    private static void Follow(OptimizerGolden golden, LogicalParameter[] parameters, Optimizer optimizer)
    {
        var tolerance = golden.Type == DType.Float64 ? 1e-14 : 2e-7;
        for (var step = 0; step < golden.Steps; step++)
        {
            Take(golden, parameters, optimizer, step, step + 1);
            for (var i = 0; i < parameters.Length; i++)
            {
                var actual = parameters[i].Value.To(DType.Float64).ToArray<double>();
                Assert.That(actual, Is.EqualTo(golden.Expected[step][i]).Within(tolerance), $"step {step}, parameter {i}");
            }
        }
    }
}

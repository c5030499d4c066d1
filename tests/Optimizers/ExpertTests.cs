using Moe.Optimizers;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

/// <summary>What every optimizer promises about experts: each is stepped as if it were alone.</summary>
[TestFixtureSource(typeof(AnyOptimizer), nameof(AnyOptimizer.Names))]
public class ExpertTests(string name)
{
    private const int Experts = 4;
    private TensorScope _scope = null!;
    private int _seed;

    [SetUp]
    public void Open()
    {
        _scope = new TensorScope();
        _seed = Environment.TickCount;
        TestContext.Out.WriteLine($"seed {_seed}");
    }

    [TearDown]
    public void Close() => _scope.Dispose();

    [Test]
    public void Experts_of_a_stack_step_as_separate_matrices_do()
    {
        var separate = Enumerable.Range(0, Experts).Select(expert => Separate(expert)).ToArray();
        var stack = Stacked([0, 1, 2, 3]);
        Run(separate, expert => expert);
        Run(stack, expert => expert);
        Assert.That(Values(stack), Is.EqualTo(Values(separate)));
    }

    [Test]
    public void Permuting_experts_permutes_their_weights()
    {
        int[] order = [2, 0, 3, 1];
        var (straight, permuted) = (Stacked([0, 1, 2, 3]), Stacked(order));
        Run(straight, expert => expert);
        Run(permuted, place => order[place]);
        Assert.That(Values(permuted), Is.EqualTo(order.Select(expert => Values(straight)[expert])));
    }

    [Test]
    public void An_expert_that_was_idle_at_first_steps_as_one_that_starts_later()
    {
        const int Idle = 2;
        var (late, fresh) = (Stacked([0, 1, 2, 3]), Separate(Idle));
        using var whole = AnyOptimizer.Make(name, late, IdlePolicy.Skip);
        using var alone = AnyOptimizer.Make(name, [fresh], IdlePolicy.Skip);
        for (var step = 0; step < 8; step++)
        {
            var sleeps = step < 3;
            Step(whole, late, step, expert => expert, parameter => sleeps && parameter.Expert == Idle);
            if (!sleeps)
            {
                Step(alone, [fresh], step, _ => Idle);
            }

            Assert.That(late[Idle].Value.ToArray<double>(), Is.EqualTo(fresh.Value.ToArray<double>()), $"step {step}");
        }
    }

    private void Run(LogicalParameter[] parameters, Func<int, int> expertAt)
    {
        using var optimizer = AnyOptimizer.Make(name, parameters);
        for (var step = 0; step < 5; step++)
        {
            Step(optimizer, parameters, step, expertAt);
        }
    }

    private void Step(Optimizer optimizer, LogicalParameter[] parameters, int step, Func<int, int> expertAt, Func<LogicalParameter, bool>? isIdle = null)
    {
        foreach (var (place, parameter) in parameters.Index())
        {
            parameter.Gradient.CopyFrom_(Drawn(expertAt(place), step + 1));
        }

        optimizer.Begin(step);
        optimizer.Step(new OptimizerStep(0.05, GradientNorm: 3, IsIdle: isIdle));
    }

    private LogicalParameter Separate(int expert) =>
        new($"matrix{expert}", ParameterKind.Expert, Drawn(expert, 0), Tensor.Zeros([6, 5], DType.Float64), layer: 0, expert);

    private LogicalParameter[] Stacked(int[] ids)
    {
        var value = Tensor.Zeros([Experts, 6, 5], DType.Float64);
        for (var place = 0; place < Experts; place++)
        {
            value.Select(0, place).CopyFrom_(Drawn(ids[place], 0));
        }

        var parameter = new Parameter("layers.0.moe.experts.down", value.Detach(), ParameterKind.Expert, ids);
        return [.. LogicalParameter.Of(parameter, Tensor.Zeros([Experts, 6, 5], DType.Float64))];
    }

    // What an expert has at a draw: its weights at 0, the gradient of step n at n + 1.
    private Tensor Drawn(int expert, int draw)
    {
        var random = new Random(HashCode.Combine(_seed, expert, draw));
        return Tensor.From(Enumerable.Range(0, 30).Select(_ => random.NextDouble() - 0.5).ToArray(), 6, 5).Clone();
    }

    private static double[][] Values(LogicalParameter[] parameters) => [.. parameters.Select(parameter => parameter.Value.ToArray<double>())];
}

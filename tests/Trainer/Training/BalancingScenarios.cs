using Moe.Distributed;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What the ranks of <see cref="BalancingTests"/> do.</summary>
internal static class BalancingScenarios
{
    private const int Accumulation = 3;

    /// <summary>Running and exact counts on every mesh of these ranks against their definitions, in two steps. Argument: folder.</summary>
    public static void FollowTheirDefinitions(ProcessGroup world, string[] arguments)
    {
        // A rate that moves no float64 weight: both steps are at the initial weights, where the oracle is.
        var tiny = TinyRun.Config(arguments[0]);
        var config = tiny with
        {
            Optimizer = tiny.Optimizer with { LearningRate = 1e-300 },
            Train = tiny.Train with { Precision = Precision.Float64, Accumulation = Accumulation },
            Parallel = tiny.Parallel with { ShardOptimizer = false }, // all gradients stay to be read on each rank
        };
        var bigBatch = config with { Train = config.Train with { Accumulation = 1, MicroBatch = Accumulation * TinyRun.Sequences } };
        for (var expertParallel = 1; expertParallel <= world.Size; expertParallel *= 2)
        {
            using var mesh = new DeviceMesh(world, expertParallel);
            using var running = TinyRun.Session(With(config, BalanceAccumulation.Running), mesh);
            using var exact = TinyRun.Session(With(config, BalanceAccumulation.Exact), mesh);
            for (var step = 0; step < 2; step++)
            {
                var runningOracle = BalancingOracle.Gradients(config, running.ConsumedSamples);
                var exactOracle = BalancingOracle.Gradients(bigBatch, exact.ConsumedSamples);
                MustCountOneStep(config, running.Advance(stop: false));
                MustCountOneStep(config, exact.Advance(stop: false));
                MustBe(Gradients(running), runningOracle, $"{mesh}, running, step {step + 1}");
                MustBe(Gradients(exact), exactOracle, $"{mesh}, exact, step {step + 1}");
                Assert.That(exactOracle.Max(expected => LogicalState.Apart(runningOracle[expected.Key], expected.Value)), Is.GreaterThan(1e-3), "the two differ");
            }
        }
    }

    private static RunConfig With(RunConfig config, BalanceAccumulation accumulation) =>
        config with { Balance = config.Balance with { Scope = BalanceScope.Global, Accumulation = accumulation } };

    private static Dictionary<string, double[]> Gradients(TrainingSession session)
    {
        using var scope = new TensorScope();
        return session.Model.Parameters
            .SelectMany(parameter => parameter.Logical(parameter.Value.Gradient!))
            .ToDictionary(logical => logical.Key, logical => logical.Value.Contiguous().ToArray<double>());
    }

    private static void MustBe(Dictionary<string, double[]> actual, Dictionary<string, double[]> oracle, string what)
    {
        foreach (var (key, gradient) in actual)
        {
            Assert.That(LogicalState.Apart(gradient, oracle[key]), Is.LessThan(1e-11), $"{what}: {key}");
        }
    }

    // Counts of an earlier step, or of the counting pass, would show here.
    private static void MustCountOneStep(RunConfig config, StepResult result)
    {
        using var scope = new TensorScope();
        var choices = result.Load.ToTensor().Sum(-1).ToArray<long>();
        Assert.That(choices, Is.EqualTo(Enumerable.Repeat(Accumulation * TinyRun.Tokens * config.Model.Moe.TopK, config.Model.Layers)));
    }
}

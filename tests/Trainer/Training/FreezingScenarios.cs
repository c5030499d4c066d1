using System.Globalization;
using Moe.Distributed;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What the ranks of <see cref="FreezingTests"/> do. Arguments: folder, form of the draw.</summary>
internal static class FreezingScenarios
{
    private const int Layers = 4;

    /// <summary>A layer costs three all-to-alls forward (counts, rows there, rows back), and two backward where something at it or below it trains.</summary>
    public static void CountWork(ProcessGroup world, string[] arguments)
    {
        using var mesh = new DeviceMesh(world, world.Size);
        using var session = TinyRun.Session(Config(arguments, OptimizerName.DropMuon), mesh);
        var operators = new Dictionary<int, List<long>>();
        for (var step = 0; step < 12; step++)
        {
            var (exchanges, calls) = (Exchanges(), Operator.Calls);
            session.Advance(stop: false);
            calls = Operator.Calls - calls;
            var passed = Enumerable.Range(0, Layers).Where(layer => !Frozen(session, layer)).Select(layer => Layers - layer).DefaultIfEmpty(0).Max();
            Assert.That(Exchanges() - exchanges, Is.EqualTo((3 * Layers) + (2 * passed)), $"step {step}, {passed} layers passed");
            operators.TryAdd(passed, []);
            operators[passed].Add(calls);
            Assert.That(double.IsFinite(session.Evaluator.Run().Loss), "an evaluation between");
        }

        Assert.That(operators, Has.Count.GreaterThan(1), "draws of different depth");
        Assert.That(operators[operators.Keys.Min()].Max(), Is.LessThan(operators[operators.Keys.Max()].Min()), "native calls of a step");

        long Exchanges() => mesh.Expert.Trace.Totals(Collective.AllToAll).Calls;
    }

    /// <summary>One step of Drop-Muon and one of Muon from the same weights.</summary>
    public static void MoveOnlyTrained(ProcessGroup world, string[] arguments)
    {
        using var mesh = new DeviceMesh(world, world.Size);
        using var dropping = TinyRun.Session(Config(arguments, OptimizerName.DropMuon), mesh);
        using var training = TinyRun.Session(Config(arguments, OptimizerName.Muon), mesh);
        var before = dropping.All();
        var (dropped, plain) = (dropping.Advance(stop: false), training.Advance(stop: false));
        Assert.That(dropped.Loss, Is.EqualTo(plain.Loss));
        Assert.That(dropped.GradientNorm, Is.LessThanOrEqualTo(plain.GradientNorm * (1 + 1e-9)));
        var expected = training.All();
        foreach (var (key, values) in dropping.All())
        {
            var frozen = IsFrozen(dropping, key);
            Assert.That(LogicalState.Apart(values, frozen ? before[key] : expected[key]), frozen ? Is.Zero : Is.LessThan(1e-5), key);
        }
    }

    private static bool Frozen(TrainingSession session, int layer) => session.Optimizer.Freezes(ParameterKind.Matrix, layer);

    // Keys are those of weights, or "momentum of" them; selection biases don't move here.
    private static bool IsFrozen(TrainingSession session, string key)
    {
        var name = key.Split(' ')[^1];
        return name == "embedding"
            ? session.Optimizer.Freezes(ParameterKind.Embedding, null)
            : name.Split('.') is ["layers", var layer, ..] && Frozen(session, int.Parse(layer, CultureInfo.InvariantCulture));
    }

    private static RunConfig Config(string[] arguments, OptimizerName name)
    {
        var config = TinyRun.Config(arguments[0], seed: 7);
        return config with
        {
            Model = config.Model with { Layers = Layers },
            Balance = config.Balance with { ZLoss = 0.01 },
            Optimizer = new()
            {
                Name = name,
                Muon = new() { Precision = Precision.Float32 },
                Drop = new() { Form = arguments[1] == "cut" ? DropForm.Cut : DropForm.Subset },
            },
        };
    }
}

using System.Diagnostics;
using Moe.Distributed;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What the ranks of <see cref="StepTests"/> do. Argument: folder.</summary>
internal static class StepScenarios
{
    /// <summary>Two runs have the same bits, and so has one that evaluates between its steps.</summary>
    public static void Repeat(ProcessGroup world, string[] arguments)
    {
        using var mesh = new DeviceMesh(world, 2);
        using var first = TinyRun.Session(Config(arguments[0]), mesh);
        using var second = TinyRun.Session(Config(arguments[0]), mesh);
        using var evaluating = TinyRun.Session(Config(arguments[0]), mesh);
        for (var step = 0; step < 4; step++)
        {
            var expected = StepNumbers.Of(first.Advance(stop: false));
            Assert.That(expected.Differences(StepNumbers.Of(second.Advance(stop: false)), 0), Is.Empty, "the same again");
            Assert.That(evaluating.Evaluator.Run().Loss, Is.GreaterThan(0));
            Assert.That(expected.Differences(StepNumbers.Of(evaluating.Advance(stop: false)), 0), Is.Empty, "with evaluations");
        }

        evaluating.Evaluator.Run();
        Assert.That(second.All(), Is.EqualTo(first.All()));
        Assert.That(evaluating.All(), Is.EqualTo(first.All()));
    }

    /// <summary>A hundred steps with all that a step can do leave no tensor.</summary>
    public static void KeepNothing(ProcessGroup world, string[] arguments)
    {
        using var mesh = new DeviceMesh(world, world.Size);
        using var session = TinyRun.Session(Config(arguments[0]), mesh);
        List<long> live = [];
        for (var step = 0; step < 100; step++)
        {
            session.Advance(stop: false);
            if (step % 25 == 10)
            {
                session.Evaluator.Run();
            }

            live.Add(Tensor.LiveCount);
        }

        Assert.That(live[2..].Distinct(), Has.One.Items, string.Join(' ', live));
    }

    /// <summary>A NaN in one expert of the last rank stops the update on all ranks, and names the parameter to all.</summary>
    public static void SkipTogether(ProcessGroup world, string[] arguments)
    {
        using var mesh = new DeviceMesh(world, world.Size);
        using var session = TinyRun.Session(Config(arguments[0]), mesh);
        session.Advance(stop: false);
        using (Autograd.NoGrad())
        using (new TensorScope())
        {
            if (world.Rank == world.Size - 1)
            {
                var experts = session.Model.Parameters.Last(parameter => parameter.Kind == ParameterKind.Expert);
                experts.Value.Narrow(0, 0, 1).Fill_(double.NaN);
            }
        }

        var before = session.All();
        var result = session.Advance(stop: false);
        Assert.That(result.Updated, Is.False);
        Assert.That(result.NotFinite, Is.Not.Null.And.Not.Empty);
        Assert.That(session.SkippedInARow, Is.EqualTo(1));
        Assert.That(session.All(), Is.EqualTo(before));
    }

    /// <summary>The numbers of each rank ride along with the step's last exchange; what is set aside is not counted, and the step's bits stay.</summary>
    public static void MeasureRanks(ProcessGroup world, string[] arguments)
    {
        using var mesh = new DeviceMesh(world, world.Size);
        using var plain = TinyRun.Session(Config(arguments[0]), mesh);
        using var measured = TinyRun.Session(Config(arguments[0]), mesh);
        var first = StepNumbers.Of(plain.Advance(stop: false));
        var before = Stopwatch.GetTimestamp();
        var meter = new RankMeter(world.Trace, measured.Batches, measured.Step);
        Assert.That(first.Differences(StepNumbers.Of(measured.Advance(stop: false)), 0), Is.Empty);
        meter.Pause();
        Thread.Sleep(500);
        meter.Resume();
        var result = measured.Advance(stop: false, meter);
        var ranks = result.Ranks!;
        var most = (Stopwatch.GetElapsedTime(before).TotalMilliseconds - 500) / 2;
        Assert.That(ranks.Keys, Is.EqualTo(RankMeter.Keys));
        Assert.That(ranks.Values, Is.All.Length.EqualTo(world.Size));
        Assert.That(ranks[RankMeter.StepTime][world.Rank], Is.GreaterThan(0).And.LessThan(most), "of two steps, without the half second between");
        Assert.That(ranks[RankMeter.BusyTime], Is.All.GreaterThan(0));
        Assert.That(ranks[RankMeter.BusyTime][world.Rank], Is.LessThan(ranks[RankMeter.StepTime][world.Rank]));
        Assert.That(ranks[RankMeter.DataTime], Is.All.GreaterThan(0));
        Assert.That(ranks[RankMeter.PeakMemory], Is.All.InRange(0.02, 8.0));
        Assert.That(StepNumbers.Of(plain.Advance(stop: false)).Differences(StepNumbers.Of(result), 0), Is.Empty);
        Assert.That(measured.Advance(stop: false).Ranks, Is.Null);
    }

    /// <summary>A stop that one rank was asked for is known to all after the same step.</summary>
    public static void StopTogether(ProcessGroup world, string[] arguments)
    {
        using var mesh = new DeviceMesh(world, world.Size);
        using var session = TinyRun.Session(Config(arguments[0]), mesh);
        Assert.That(session.Advance(stop: false).Stop, Is.False);
        Assert.That(session.Advance(stop: world.Rank == world.Size - 1).Stop, Is.True);
    }

    private static RunConfig Config(string folder)
    {
        var config = TinyRun.Config(folder);
        return config with
        {
            Optimizer = new() { Name = OptimizerName.AdamW },
            Balance = config.Balance with { Scope = BalanceScope.Global, Accumulation = BalanceAccumulation.Exact, BiasRate = 0.01, ZLoss = 0.01 },
            Model = config.Model with { Moe = config.Model.Moe with { SharedExperts = 1, CapacityFactor = 1.5 } },
            Train = config.Train with { Accumulation = 2, ClipNorm = 0.5 },
        };
    }
}

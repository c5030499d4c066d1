using System.Globalization;
using Moe.Distributed;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Checkpoints;
using Moe.Training.Planning;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What four ranks really allocate and send in a step, against the plan of that step.</summary>
internal static class PlanningScenarios
{
    private static readonly Collective[] Counted = [Collective.AllToAll, Collective.AllReduce, Collective.AllGather, Collective.ReduceScatter];

    private const int RanksPerNode = 2;

    // Of what is planned: angles, token ids, orders, statistics and scalars are left out.
    private const double LeftOut = 0.01;

    public static void Step_is_as_planned(ProcessGroup world, string[] arguments)
    {
        foreach (var name in PlanningCase.Names)
        {
            var config = PlanningCase.Config(name, arguments[0]);
            using var mesh = new DeviceMesh(world, config.Parallel.ExpertParallel ?? world.Size) { RanksPerNode = RanksPerNode };
            using var session = new TrainingSession(config, mesh, new CheckpointFolder("nowhere"));
            using var model = new PlannedModel(config, world.Size, RanksPerNode);
            session.Advance(stop: false);
            CompareMemory(name, session, MemoryPlan.Of(model, rank: world.Rank));
            world.Trace.ResetTotals();
            session.Advance(stop: false);
            CompareCollectives(name, world, CollectivePlan.Of(model, DeviceRecords.Fast, perNode: RanksPerNode, rank: world.Rank));
        }
    }

    /// <summary>The most that a step takes is what was planned for its rank. Arguments: folder, seed.</summary>
    public static void Peak_is_as_planned(ProcessGroup world, string[] arguments)
    {
        var random = new Random(int.Parse(arguments[1], CultureInfo.InvariantCulture));
        foreach (var name in PeakCase.Names)
        {
            var config = PeakCase.Config(name, arguments[0], random);
            using var mesh = new DeviceMesh(world, config.Parallel.ExpertParallel ?? world.Size);
            using var model = new PlannedModel(config, world.Size);
            var plan = MemoryPlan.Of(model, rank: world.Rank);
            using var count = new HostMemoryCount(); // counts to its end what is made in it, and no address that was freed before
            using var session = new TrainingSession(config, mesh, new CheckpointFolder("nowhere"));
            session.Advance(stop: false);
            HostMemoryCount.Read();
            session.Advance(stop: false);
            ComparePeak(name, HostMemoryCount.Read().Peak, plan, buffersAreGloos: !config.Parallel.ShardOptimizer && world.Backend == "gloo");
        }
    }

    // What stays from step to step is known to the byte, and would hide the rest.
    private static void ComparePeak(string name, long most, MemoryPlan plan, bool buffersAreGloos)
    {
        var stays = plan.Persistent.Sum(item => item.Bytes) - plan.LateGradients;
        var (measured, planned) = (most - stays, plan.Peak - stays);
        var what = $"{name}: measured {measured}, planned {planned}, beside {stays} that stay";
        Console.WriteLine(what);
        Assert.That((double)measured, Is.AtMost((1 + LeftOut) * planned), what);
        if (!buffersAreGloos)
        {
            Assert.That(planned, Is.AtMost(measured + plan.Workspace), $"a layer's workspace is planned for all of its backward; {what}");
        }
    }

    private static void CompareMemory(string name, TrainingSession session, MemoryPlan plan)
    {
        Assert.That(plan.Of("weights"), Is.EqualTo(session.Model.Parameters.Sum(parameter => Bytes(parameter.Value))), $"{name}: weights");
        var state = session.Optimizer.State.Sum(state => Bytes(state.Value));
        Assert.That(plan.Persistent.Where(item => item.Kind.StartsWith("optimizer", StringComparison.Ordinal)).Sum(item => item.Bytes), Is.EqualTo(state), $"{name}: optimizer state");
        Assert.That(plan.Of("gradients"), Is.EqualTo(session.GradientBytes), $"{name}: gradients");
    }

    private static void CompareCollectives(string name, ProcessGroup world, IReadOnlyList<CollectiveItem> plan)
    {
        foreach (var collective in Counted)
        {
            var (totals, items) = (world.Trace.Totals(collective), plan.Where(item => item.Operation == collective).ToList());
            Assert.That(items.Sum(item => item.Bytes), Is.EqualTo(totals.Bytes), $"{name}: bytes of {collective}");
            Assert.That(items.Sum(item => item.Calls), Is.EqualTo(totals.Calls), $"{name}: calls of {collective}");
        }
    }

    private static long Bytes(Tensor tensor) => tensor.Count * tensor.DType.Size();
}

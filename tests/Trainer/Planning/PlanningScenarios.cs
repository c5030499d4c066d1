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

    public static void Step_is_as_planned(ProcessGroup world, string[] arguments)
    {
        foreach (var name in PlanningCase.Names)
        {
            var config = PlanningCase.Config(name, arguments[0]);
            using var mesh = new DeviceMesh(world, config.Parallel.ExpertParallel ?? world.Size) { RanksPerNode = RanksPerNode };
            using var session = new TrainingSession(config, mesh, new CheckpointFolder("nowhere"));
            using var model = new PlannedModel(config, world.Size);
            session.Advance(stop: false);
            CompareMemory(name, session, MemoryPlan.Of(model, rank: world.Rank));
            world.Trace.ResetTotals();
            session.Advance(stop: false);
            CompareCollectives(name, world, CollectivePlan.Of(model, DeviceRecords.Fast, perNode: RanksPerNode, rank: world.Rank));
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

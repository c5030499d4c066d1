using Moe.Distributed;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

public sealed class GroupTests
{
    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void Groups_and_meshes_reach_exactly_their_members(string backend) => Ranks.Run(Groups, 4, backend);

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void Unfitting_arguments_are_refused_before_anything_is_sent(string backend) =>
        Ranks.Run(ArgumentScenarios.AreRefusedBeforeAnythingIsSent, 3, backend);

    [Test]
    public void Totals_count_calls_bytes_that_leave_and_waiting()
    {
        using var group = new SingleProcessGroup(TimeSpan.FromSeconds(1));
        using var values = Moe.Torch.Tensor.Zeros([6]);
        group.AllReduce(values);
        group.AllReduce(values);
        using var output = Moe.Torch.Tensor.Zeros([6]);
        group.AllToAll(output, values, [6], [6]);
        Assert.That(group.Trace.Totals(Collective.AllReduce) with { Waited = default }, Is.EqualTo(new CollectiveTotals(2, 48, default)));
        Assert.That(group.Trace.Totals(Collective.AllToAll).Bytes, Is.Zero, "nothing leaves a group of one");
        Assert.That(group.Trace.Sequence, Is.EqualTo(3));
        group.Trace.ResetTotals();
        Assert.That(group.Trace.Totals(Collective.AllReduce), Is.EqualTo(default(CollectiveTotals)));
    }

    private static void Groups(ProcessGroup world)
    {
        GroupScenarios.GroupsOfGroups(world);
        GroupScenarios.MeshOfTwoByTwo(world);
        GroupScenarios.MeshOfOtherAxes(world);
        GroupScenarios.WrongMembersAreRefused(world);
        FailureScenarios.NullReferencesAreStillExceptions(world);
    }
}

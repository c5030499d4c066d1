using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>Groups within groups, for a world of 4.</summary>
internal static class GroupScenarios
{
    public static void GroupsOfGroups(ProcessGroup world)
    {
        int[] even = [2, 0], odd = [1, 3];
        var isEven = world.Rank % 2 == 0;
        using var half = world.CreateGroup(isEven ? even : odd, "half");
        Assert.That(half.Rank, Is.EqualTo(world.Rank is 2 or 1 ? 0 : 1), "the order of the list is that of the ranks");
        Assert.That(SumOfRanks(half, world.Rank), Is.EqualTo(isEven ? 2 : 4));

        using var everyone = world.CreateGroup([3, 2, 1, 0], "reversed");
        using var pair = everyone.CreateGroup(everyone.Rank < 2 ? [0, 1] : [2, 3], "pair");
        Assert.That(SumOfRanks(pair, world.Rank), Is.EqualTo(everyone.Rank < 2 ? 5 : 1));

        using var alone = half.CreateGroup([half.Rank], "alone");
        Assert.That(SumOfRanks(alone, world.Rank), Is.EqualTo(world.Rank));

        if (world.Rank > 0)
        {
            using var three = world.CreateGroup([1, 2, 3], "three"); // rank 0 takes no part, and need not know
            Assert.That(SumOfRanks(three, world.Rank), Is.EqualTo(6));
        }

        using var again = world.CreateGroup(isEven ? even : odd, "half"); // the same name once more
        Assert.That(SumOfRanks(again, world.Rank), Is.EqualTo(isEven ? 2 : 4));
        OverlappingStreams(world, half, everyone);
    }

    public static void MeshOfTwoByTwo(ProcessGroup world)
    {
        using var mesh = new DeviceMesh(world, expertParallel: 2);
        Assert.That((mesh.ReplicaRank, mesh.ExpertRank), Is.EqualTo((world.Rank / 2, world.Rank % 2)));
        Assert.That(SumOfRanks(mesh.Expert, world.Rank), Is.EqualTo(world.Rank < 2 ? 1 : 5));
        Assert.That(SumOfRanks(mesh.Replica, world.Rank), Is.EqualTo(world.Rank % 2 == 0 ? 2 : 4));
        Assert.That(SumOfRanks(mesh.Gradients, world.Rank), Is.EqualTo(6));
        Assert.That(SumOfRanks(mesh.Metrics, world.Rank), Is.EqualTo(6));
    }

    public static void MeshOfOtherAxes(ProcessGroup world)
    {
        using var mesh = new DeviceMesh(world, new("replica", 1), new("expert", 2), new("tensor", 2));
        Assert.That(mesh.Group("tensor").Size, Is.EqualTo(2));
        Assert.That(SumOfRanks(mesh.Group("tensor"), world.Rank), Is.EqualTo(world.Rank < 2 ? 1 : 5));
        Assert.That(SumOfRanks(mesh.Expert, world.Rank), Is.EqualTo(world.Rank % 2 == 0 ? 2 : 4));
        Assert.That(mesh.Replica.Size, Is.EqualTo(1));
        Assert.That(() => mesh.Group("pipeline"), Throws.ArgumentException.With.Message.Contains("replica, expert, tensor"));
        Assert.That(() => new DeviceMesh(world, 3), Throws.ArgumentException.With.Message.Contains("1 (replica) x 3 (expert)"));
    }

    public static void WrongMembersAreRefused(ProcessGroup world)
    {
        foreach (var ranks in new int[][] { [], [world.Rank, world.Rank], [world.Rank, 4], [-1, world.Rank], [(world.Rank + 1) % 4] })
        {
            Assert.That(() => world.CreateGroup(ranks, "wrong"), Throws.ArgumentException.With.Message.Contains($"rank {world.Rank} among them"));
        }
    }

    // Operations on different groups may be waited for in another order than they were started in.
    private static void OverlappingStreams(ProcessGroup world, ProcessGroup half, ProcessGroup everyone)
    {
        using var scope = new TensorScope();
        var values = Enumerable.Range(0, 9).Select(i => Tensor.Full([40_000], world.Rank + i, DType.Int64)).ToArray();
        ProcessGroup[] groups = [world, half, everyone];
        var works = values.Select((tensor, i) => groups[i % 3].AllReduceAsync(tensor)).ToArray();
        foreach (var i in world.Rank % 2 == 0 ? Enumerable.Range(0, 9) : Enumerable.Range(0, 9).Reverse())
        {
            works[i].Wait();
            var ranks = i % 3 == 1 ? (world.Rank % 2 == 0 ? 2 : 4) : 6;
            Assert.That(values[i].ToArray<long>(), Is.All.EqualTo(ranks + (groups[i % 3].Size * i)), $"operation {i}");
        }
    }

    private static long SumOfRanks(ProcessGroup group, int worldRank)
    {
        using var value = Tensor.Full([1], worldRank, DType.Int64);
        group.AllReduce(value);
        return value.Span<long>()[0];
    }
}

using System.Globalization;
using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>What the ranks of <see cref="DispatcherTests"/> do.</summary>
internal static class DispatcherScenarios
{
    /// <summary>Both dispatchers against the definition and against each other, on every kind of choice; the argument is a seed.</summary>
    public static void CompareWithDefinition(ProcessGroup world, string[] arguments)
    {
        var seed = int.Parse(arguments[0], CultureInfo.InvariantCulture);
        foreach (var problem in Cases(seed, world.Size))
        {
            TokenDispatcher[] dispatchers = [new AllToAllDispatcher(world, problem.Experts), new AllGatherDispatcher(world, problem.Experts)];
            foreach (var dispatcher in dispatchers)
            {
                DispatchRun.Of(dispatcher, problem, world.Rank, DType.Float64, DType.Float64).MustMatch(problem, dispatcher, world.Rank, 1e-12);
                DispatchRun.Of(dispatcher, problem, world.Rank, DType.Float32, DType.Float32).MustMatch(problem, dispatcher, world.Rank, 1e-6);
            }

            var rounded = problem.InBFloat16();
            DispatchRun.Of(dispatchers[0], rounded, world.Rank, DType.BFloat16, DType.Float32).MustMatch(rounded, dispatchers[0], world.Rank, 0.01);
        }
    }

    /// <summary>Over nodes against the definition, on every kind of choice, and how much moves: four ranks as two nodes of two. The argument is a seed.</summary>
    public static void GoOverNodes(ProcessGroup world, string[] arguments)
    {
        using var mesh = new DeviceMesh(world, world.Size) { RanksPerNode = 2 };
        CompareOver(mesh.ExpertNodes(), world, arguments);
        CountBytesBetweenNodes(mesh, world, int.Parse(arguments[0], CultureInfo.InvariantCulture));
    }

    /// <summary>The same where each rank is a node of its own, as on two GPUs: all of both exchanges, without neighbours. The argument is a seed.</summary>
    public static void CompareOverNodesOfOne(ProcessGroup world, string[] arguments)
    {
        using var inside = world.CreateGroup([world.Rank], "inside");
        using var between = world.CreateGroup([.. Enumerable.Range(0, world.Size)], "between");
        CompareOver(new NodeGroups(inside, between), world, arguments);
    }

    private static void CompareOver(NodeGroups nodes, ProcessGroup world, string[] arguments)
    {
        var seed = int.Parse(arguments[0], CultureInfo.InvariantCulture);
        foreach (var problem in Cases(seed, world.Size))
        {
            var dispatcher = new TwoLevelDispatcher(nodes, problem.Experts);
            void MustMatch(DispatchCase problem, DType type, DType weights, double tolerance) =>
                DispatchRun.Of(dispatcher, problem, world.Rank, type, weights).MustMatch(problem, dispatcher, world.Rank, tolerance, bySource: false);
            MustMatch(problem, DType.Float64, DType.Float64, 1e-12);
            MustMatch(problem, DType.Float32, DType.Float32, 1e-6);
            MustMatch(problem.InBFloat16(), DType.BFloat16, DType.Float32, 0.01);
        }
    }

    /// <summary>The same tokens give the same bits on one rank and on all; the argument is a seed.</summary>
    public static void CompareWithOneRank(ProcessGroup world, string[] arguments)
    {
        var seed = int.Parse(arguments[0], CultureInfo.InvariantCulture);
        var problem = new DispatchCase(seed, TokensOfRank(new Random(seed), world.Size), slots: 2, experts: 2 * world.Size, width: 24);
        var whole = problem.OnOneRank();
        var alone = DispatchRun.Of(new LocalDispatcher(problem.Experts), whole, 0, DType.Float32, DType.Float32);
        var together = DispatchRun.Of(new AllToAllDispatcher(world, problem.Experts), problem, world.Rank, DType.Float32, DType.Float32);
        var first = problem.Shares[..world.Rank].Sum(share => share.Count);
        var count = problem.Shares[world.Rank].Count;
        Assert.That(together.Output, Is.EqualTo(alone.Output[(first * 24)..((first + count) * 24)]));
        Assert.That(together.TokenGradient, Is.EqualTo(alone.TokenGradient[(first * 24)..((first + count) * 24)]));
        Assert.That(together.WeightGradient, Is.EqualTo(alone.WeightGradient[(first * 2)..((first + count) * 2)]));
    }

    public static void CountTensors(ProcessGroup world)
    {
        var problem = new DispatchCase(5, TokensOfRank(new Random(5), world.Size), slots: 2, experts: 2 * world.Size, width: 8);
        TokenDispatcher[] dispatchers = [new AllToAllDispatcher(world, problem.Experts), new AllGatherDispatcher(world, problem.Experts)];
        var before = Tensor.LiveCount;
        for (var step = 0; step < 20; step++)
        {
            foreach (var dispatcher in dispatchers)
            {
                DispatchRun.Of(dispatcher, problem, world.Rank, DType.Float32, DType.Float32);
                Assert.That(Tensor.LiveCount, Is.EqualTo(before));
            }
        }
    }

    /// <summary>A forward and backward exchange counts once and rows four times, and leaves the loop's labels as they were.</summary>
    public static void CountCollectives(ProcessGroup world)
    {
        var problem = new DispatchCase(5, TokensOfRank(new Random(5), world.Size), slots: 2, experts: world.Size, width: 8);
        (world.Trace.Layer, world.Trace.Phase) = (7, "forward");
        world.Trace.ResetTotals();
        DispatchRun.Of(new AllToAllDispatcher(world, problem.Experts), problem, world.Rank, DType.Float32, DType.Float32);
        Assert.That(world.Trace.Totals(Collective.AllToAll).Calls, Is.EqualTo(5));
        Assert.That((world.Trace.Layer, world.Trace.Phase), Is.EqualTo((7, "forward")));
    }

    /// <summary>A token goes once to a rank, however many of its experts are there, and one row comes back; the argument is a seed.</summary>
    public static void CountBytes(ProcessGroup world, string[] arguments)
    {
        const int Slots = 6, Width = 8;
        var seed = int.Parse(arguments[0], CultureInfo.InvariantCulture);
        var problem = new DispatchCase(seed, TokensOfRank(new Random(seed), world.Size), Slots, experts: 4 * world.Size, Width, Choices.SomeDropped);
        long Travelling(int from, int to) => from == to
            ? 0
            : problem.Shares[from].Ids.LongCount(ids => ids.Any(id => id / 4 == to));
        var leaving = Enumerable.Range(0, world.Size).Sum(rank => Travelling(world.Rank, rank));
        var arriving = Enumerable.Range(0, world.Size).Sum(rank => Travelling(rank, world.Rank));
        world.Trace.ResetTotals();
        DispatchRun.Of(new AllToAllDispatcher(world, problem.Experts), problem, world.Rank, DType.Float32, DType.Float32);
        const long Row = Width * sizeof(float), Weights = Slots * sizeof(float), Ids = Slots * sizeof(int);
        static long Padded(long bytes) => (bytes + 15) / 16 * 16;
        var forward = (leaving * Padded(Row + Weights + Ids)) + (arriving * Row);
        var backward = (leaving * Row) + (arriving * Padded(Row + Weights));
        var sizes = 2 * sizeof(long) * (world.Size - 1);
        Assert.That(world.Trace.Totals(Collective.AllToAll).Bytes, Is.EqualTo(forward + backward + sizes));
    }

    public static void LoseARank(ProcessGroup world)
    {
        if (world.Rank == 0)
        {
            Environment.Exit(9);
        }

        using var scope = new TensorScope();
        world.Trace.Layer = 3;
        var dispatcher = new AllToAllDispatcher(world, world.Size);
        dispatcher.Dispatch(Tensor.Ones([4, 8]).Here(), Tensor.Zeros([4, 1], DType.Int64).Here(), Tensor.Ones([4, 1]).Here());
    }

    // However many ranks of a node a token goes to, it goes there once.
    private static void CountBytesBetweenNodes(DeviceMesh mesh, ProcessGroup world, int seed)
    {
        const int Slots = 6, Width = 8, Nodes = 2;
        var problem = new DispatchCase(seed, TokensOfRank(new Random(seed), world.Size), Slots, experts: 4 * world.Size, Width, Choices.SomeDropped);
        var dispatcher = new TwoLevelDispatcher(mesh.ExpertNodes(), problem.Experts);
        using var scope = new TensorScope();
        var share = problem.Shares[world.Rank];
        var ids = Tensor.From([.. share.Ids.SelectMany(id => id)], share.Count, Slots).Here();
        var route = dispatcher.Plan(ids, 1)[0];
        var local = world.Rank % mesh.RanksPerNode;
        var expected = Enumerable.Range(0, Nodes).Select(node => problem.Shares[(node * mesh.RanksPerNode) + local])
            .Sum(peer => peer.Ids.LongCount(chosen => chosen.Any(id => id < problem.Experts && id / (problem.Experts / Nodes) == world.Rank / mesh.RanksPerNode)));
        Assert.That(route.PassingRows, Is.EqualTo(expected));
        var arriving = problem.Shares.Sum(peer => peer.Ids.LongCount(chosen => chosen.Any(id => id / 4 == world.Rank)));
        Assert.That(route.ArrivingRows, Is.EqualTo(arriving));
        Assert.That(route.ArrivingChoices, Is.EqualTo(problem.RowsPerExpert(dispatcher.FirstExpert, dispatcher.LocalExperts).Sum()));
        var seconds = ExchangeTiming.Seconds(dispatcher, mesh.Expert, tokens: 64, Width, Slots, DType.Float32, RandomTensors.Device);
        Assert.That(seconds, Is.GreaterThan(0).And.LessThan(10));
    }

    private static IEnumerable<DispatchCase> Cases(int seed, int ranks)
    {
        var random = new Random(seed);
        int Experts() => ranks * random.Next(1, 4);
        yield return new DispatchCase(seed, TokensOfRank(random, ranks), slots: 2, 4 * ranks, width: 19);
        yield return new DispatchCase(seed + 1, TokensOfRank(random, ranks), slots: 1, Experts(), width: 5);
        yield return new DispatchCase(seed + 2, TokensOfRank(random, ranks), slots: 2 * ranks, 2 * ranks, width: 8);
        yield return new DispatchCase(seed + 3, TokensOfRank(random, ranks), slots: 2, 2 * ranks, width: 8, Choices.SomeDropped);
        yield return new DispatchCase(seed + 4, TokensOfRank(random, ranks), slots: 1, Experts(), width: 8, Choices.AllDropped);
        yield return new DispatchCase(seed + 5, TokensOfRank(random, ranks), slots: 1, Experts(), width: 8, Choices.AllToOneExpert);
        yield return new DispatchCase(seed + 6, TokensOfRank(random, ranks), slots: 1, 2 * ranks, width: 8, Choices.OneExpertIdle);
        yield return new DispatchCase(seed + 7, [.. Enumerable.Range(0, ranks).Select(rank => rank == ranks - 1 ? 0 : 5)], slots: 2, 2 * ranks, width: 8);
        yield return new DispatchCase(seed + 8, new int[ranks], slots: 2, 2 * ranks, width: 8);
    }

    private static int[] TokensOfRank(Random random, int ranks) => [.. Enumerable.Range(0, ranks).Select(_ => random.Next(0, 12))];
}

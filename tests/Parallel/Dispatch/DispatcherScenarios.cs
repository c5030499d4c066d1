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

            var bfloat16 = DispatchRun.Of(dispatchers[0], problem, world.Rank, DType.BFloat16, DType.Float32);
            bfloat16.MustMatch(problem, dispatchers[0], world.Rank, 0.04); // 8 bits of mantissa
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

using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>Calls that are refused on one rank before anything is sent, so that the group goes on as if they had not been.</summary>
internal static class ArgumentScenarios
{
    public static void AreRefusedBeforeAnythingIsSent(ProcessGroup world)
    {
        if (world.Rank == 0) // the others notice nothing
        {
            AllToAllsOf(world);
            OthersOf(world);
        }

        using var sum = Tensor.Full([2], 1, DType.Int32);
        world.AllReduce(sum);
        Assert.That(sum.ToArray<int>(), Is.All.EqualTo(world.Size));
    }

    private static void AllToAllsOf(ProcessGroup world)
    {
        using var scope = new TensorScope();
        var ones = Enumerable.Repeat(1L, world.Size).ToArray();
        var rows = Tensor.Zeros([world.Size, 4]);
        void Refused(Tensor output, Tensor input, long[] outputRows, long[] inputRows, string because) => Assert.That(
            () => world.AllToAllAsync(output, input, outputRows, inputRows), Throws.ArgumentException.With.Message.Contains(because));

        Refused(Tensor.Zeros([world.Size, 4], DType.Float64), rows, ones, ones, "differ in type or shape");
        Refused(Tensor.Zeros([world.Size, 3]), rows, ones, ones, "differ in type or shape");
        Refused(Tensor.Zeros([4, world.Size]).Transpose(), rows, ones, ones, "gaps in memory");
        Refused(rows, Tensor.Zeros([world.Size, 8]).Narrow(1, 0, 4), ones, ones, "gaps in memory");
        Refused(Tensor.Zeros([world.Size + 1, 4]), rows, ones, ones, $"with the sum {world.Size + 1}");
        Refused(rows, rows.Clone(), ones[1..], ones, $"should be {world.Size} numbers");
        Refused(rows, rows.Clone(), ones, [-1, .. ones[2..], 2], "at least 0");
        Refused(rows, rows.Clone(), [2, .. ones[2..], 0], ones, "keeps 1 rows for itself, but expects 2");
    }

    private static void OthersOf(ProcessGroup world)
    {
        using var scope = new TensorScope();
        var part = Tensor.Zeros([3, 2]);
        var whole = Tensor.Zeros([3 * world.Size, 2]);
        Assert.That(() => world.AllReduceAsync(Tensor.Zeros([2], DType.BFloat16)), Throws.ArgumentException.With.Message.Contains("cannot be reduced"));
        Assert.That(() => world.AllReduceAsync(Tensor.Zeros([3, 2]).Transpose()), Throws.ArgumentException.With.Message.Contains("gaps"));
        Assert.That(() => world.AllGatherAsync(part, part), Throws.ArgumentException.With.Message.Contains($"{world.Size} times"));
        Assert.That(() => world.AllGatherAsync(whole, Tensor.Zeros([3, 2], DType.Int32)), Throws.ArgumentException.With.Message.Contains("differ"));
        Assert.That(() => world.ReduceScatterAsync(whole, part), Throws.ArgumentException.With.Message.Contains($"{world.Size} times"));
        Assert.That(() => world.ReduceScatterAsync(part, Tensor.Zeros([3 * world.Size, 2], DType.UInt8)), Throws.ArgumentException);
        Assert.That(() => world.BroadcastAsync(part, world.Size), Throws.ArgumentException.With.Message.Contains($"ranks 0 to {world.Size - 1}"));
        Assert.That(() => world.BroadcastAsync(part, -1), Throws.ArgumentException);
    }
}

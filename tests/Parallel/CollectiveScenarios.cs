using System.Runtime.InteropServices;
using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;
using static Moe.Tests.Distributed.RandomTensors;

namespace Moe.Tests.Distributed;

/// <summary>
/// What every rank does in <see cref="CollectiveTests"/>. All ranks draw the inputs of all ranks from the same stream, so each can
/// work out by plain copying what it has to receive.
/// </summary>
internal static class CollectiveScenarios
{
    private static readonly ReduceOperation[] Operations = Enum.GetValues<ReduceOperation>();

    public static void MovesRows(ProcessGroup group, string[] arguments)
    {
        var random = Stream(arguments);
        foreach (var dtype in AllTypes)
        {
            foreach (var rowShape in new long[][] { [], [3], [2, 5], [0] })
            {
                AllToAll(group, random, dtype, rowShape, RandomSplits(random, group.Size));
            }

            foreach (var splits in EdgeSplits(random, group.Size))
            {
                AllToAll(group, random, dtype, [7], splits);
            }
        }
    }

    public static void GathersAndBroadcasts(ProcessGroup group, string[] arguments)
    {
        var random = Stream(arguments);
        foreach (var dtype in AllTypes)
        {
            foreach (var rows in new long[] { 0, 1, 5, 4000 })
            {
                using var scope = new TensorScope();
                var inputs = OfEveryRank(group, random, dtype, [rows, 3]);
                var output = Poisoned(dtype, group.Size * rows, 3);
                group.AllGather(output, inputs[group.Rank]);
                AssertSameBits(output, Joined(inputs.Select(input => Bytes(input).ToArray())), $"all_gather of {rows} rows");

                var root = random.Next(group.Size);
                var expected = Bytes(inputs[root]).ToArray();
                group.Broadcast(inputs[group.Rank], root);
                AssertSameBits(inputs[group.Rank], expected, $"broadcast from {root}");
            }
        }
    }

    public static void Reduces(ProcessGroup group, string[] arguments)
    {
        var random = Stream(arguments);
        foreach (var dtype in ReducibleTypes)
        {
            foreach (var operation in Operations)
            {
                // One element less than ranks leaves a rank without a part; the largest goes the way of large tensors.
                foreach (var count in new long[] { 0, 1, group.Size - 1, 1000, 70_001 })
                {
                    AllReduce(group, random, dtype, operation, count);
                    ReduceScatter(group, random, dtype, operation, count);
                    UnevenParts(group, random, dtype, operation, count);
                }
            }
        }
    }

    public static void NaNWinsEveryReduction(ProcessGroup group)
    {
        using var scope = new TensorScope();
        foreach (var operation in Operations)
        {
            var values = Tensor.From([group.Rank, group.Rank == group.Size - 1 ? float.NaN : 1, 2f]).Here();
            group.AllReduce(values, operation);
            Assert.That(values.ToArray<float>().Select(float.IsNaN), Is.EqualTo([false, true, false]), operation.ToString());
        }
    }

    public static void ManyInFlight(ProcessGroup group, string[] arguments)
    {
        var random = Stream(arguments);
        var before = Tensor.LiveCount;
        var started = new List<(Work Work, Tensor Result, byte[] Expected)>();
        for (var i = 0; i < 12; i++)
        {
            using var inner = new TensorScope(); // ends while the transfers are under way: the works keep their tensors
            var inputs = OfEveryRank(group, random, DType.Int64, [group.Size * 2L, 1 + random.Next(9000)]);
            var (own, width) = (inputs[group.Rank], inputs[0].Size(1));
            var sum = Reduced(inputs, ReduceOperation.Sum); // before an operation in place begins to change the inputs
            switch (i % 4)
            {
                case 0:
                    started.Add((group.AllReduceAsync(own), Outliving(own), sum));
                    break;
                case 1:
                    var gathered = Poisoned(DType.Int64, group.Size * own.Size(0), width);
                    started.Add((group.AllGatherAsync(gathered, own), Outliving(gathered), Joined(inputs.Select(input => Bytes(input).ToArray()))));
                    break;
                case 2:
                    var exchanged = Poisoned(DType.Int64, own.Shape);
                    var two = Enumerable.Repeat(2L, group.Size).ToArray();
                    var expected = Joined(inputs.Select(input => Bytes(input.Narrow(0, 2 * group.Rank, 2)).ToArray()));
                    started.Add((group.AllToAllAsync(exchanged, own, two, two), Outliving(exchanged), expected));
                    break;
                default:
                    var part = Poisoned(DType.Int64, 2, width);
                    var bytes = 2 * (int)width * sizeof(long);
                    started.Add((group.ReduceScatterAsync(part, own), Outliving(part), sum[(group.Rank * bytes)..][..bytes]));
                    break;
            }
        }

        var barrier = group.BarrierAsync();
        foreach (var index in Enumerable.Range(0, started.Count).OrderBy(i => (i * 5) % started.Count))
        {
            var (work, result, expected) = started[index];
            if (index % 3 == 0)
            {
                SpinWait.SpinUntil(() => work.IsCompleted);
            }

            work.Wait();
            work.Wait();
            Assert.That(work.IsCompleted, Is.True);
            AssertSameBits(result, expected, $"operation {index}");
        }

        barrier.Wait();
        started.ForEach(operation => operation.Result.Dispose());
        Assert.That(Tensor.LiveCount, Is.EqualTo(before), "works free the tensors that they kept");
    }

    /// <summary>A handle on the same tensor that no scope frees.</summary>
    private static Tensor Outliving(Tensor tensor) => tensor.Share().Detached();

    private static Random Stream(string[] arguments)
    {
        Console.WriteLine($"seed {arguments[0]}");
        return new Random(int.Parse(arguments[0]));
    }

    private static Tensor[] OfEveryRank(ProcessGroup group, Random random, DType dtype, long[] shape) =>
        [.. Enumerable.Range(0, group.Size).Select(_ => RandomTensors.Random(random, dtype, shape))];

    private static long[][] RandomSplits(Random random, int ranks) =>
        [.. Enumerable.Range(0, ranks).Select(_ => Enumerable.Range(0, ranks).Select(_ => (long)random.Next(6)).ToArray())];

    private static IEnumerable<long[][]> EdgeSplits(Random random, int ranks)
    {
        yield return Changed(random, ranks, (_, _, _) => 0); // nobody sends anything
        var idle = random.Next(ranks);
        yield return Changed(random, ranks, (from, _, rows) => from == idle ? 0 : rows);
        yield return Changed(random, ranks, (_, to, rows) => to == idle ? 0 : rows);
        yield return Changed(random, ranks, (_, to, _) => to == idle ? 900 : 0); // everything to one
        yield return Changed(random, ranks, (from, to, rows) => from == to ? rows : 0);
    }

    private static long[][] Changed(Random random, int ranks, Func<int, int, long, long> change) =>
        [.. RandomSplits(random, ranks).Select((row, from) => row.Select((rows, to) => change(from, to, rows)).ToArray())];

    private static void AllToAll(ProcessGroup group, Random random, DType dtype, long[] rowShape, long[][] splits)
    {
        using var scope = new TensorScope();
        var inputs = splits.Select(rows => RandomTensors.Random(random, dtype, [rows.Sum(), .. rowShape])).ToArray();
        var received = splits.Select(rows => rows[group.Rank]).ToArray();
        var expected = inputs.Select((input, from) =>
            Bytes(input.Narrow(0, splits[from].Take(group.Rank).Sum(), splits[from][group.Rank])).ToArray());
        var output = Poisoned(dtype, [received.Sum(), .. rowShape]);
        group.AllToAll(output, inputs[group.Rank], received, splits[group.Rank]);
        AssertSameBits(output, Joined(expected), $"all_to_all of {dtype} [{string.Join(", ", rowShape)}]");
    }

    private static void AllReduce(ProcessGroup group, Random random, DType dtype, ReduceOperation operation, long count)
    {
        using var scope = new TensorScope();
        var inputs = OfEveryRank(group, random, dtype, [count]);
        var expected = Reduced(inputs, operation);
        var what = $"all_reduce {operation} of {count} {dtype}";
        var values = inputs[group.Rank];
        var again = values.Clone();
        group.AllReduce(values, operation);
        AssertSum(group, values, expected, what);

        group.AllReduce(again, operation);
        AssertSameBits(again, Bytes(values), $"repeated {what}");
        var everyones = Poisoned(dtype, group.Size * count);
        group.AllGather(everyones, values);
        for (var rank = 0; rank < group.Size; rank++)
        {
            AssertSameBits(values, Bytes(everyones.Narrow(0, rank * count, count)), $"rank {rank}'s {what}");
        }
    }

    private static void ReduceScatter(ProcessGroup group, Random random, DType dtype, ReduceOperation operation, long count)
    {
        using var scope = new TensorScope();
        var inputs = OfEveryRank(group, random, dtype, [group.Size * count]);
        var output = Poisoned(dtype, count);
        group.ReduceScatter(output, inputs[group.Rank], operation);
        var bytes = (int)count * dtype.Size();
        AssertPart(group, output, Reduced(inputs, operation)[(group.Rank * bytes)..][..bytes], $"reduce_scatter {operation} of {count} {dtype}");
    }

    // In place: each rank's part is reduced where it stands, and then given to all. The first rank has no part.
    private static void UnevenParts(ProcessGroup group, Random random, DType dtype, ReduceOperation operation, long count)
    {
        using var scope = new TensorScope();
        long[] rows = [.. Enumerable.Range(0, group.Size).Select(rank => rank * count)];
        var inputs = OfEveryRank(group, random, dtype, [rows.Sum()]);
        var expected = Reduced(inputs, operation);
        var values = inputs[group.Rank];
        var own = values.Narrow(0, rows.Take(group.Rank).Sum(), rows[group.Rank]);
        group.ReduceScatterAsync(own, values, rows, operation).Wait();
        var start = (int)rows.Take(group.Rank).Sum() * dtype.Size();
        AssertPart(group, own, expected[start..][..((int)rows[group.Rank] * dtype.Size())], $"uneven reduce_scatter {operation} of {count} {dtype}");
        var apart = Poisoned(dtype, rows.Sum());
        group.AllGatherAsync(apart, own, rows).Wait();
        group.AllGatherAsync(values, own, rows).Wait();
        AssertPart(group, apart, expected, $"uneven all_gather of {count} {dtype}");
        AssertSameBits(values, Bytes(apart), $"uneven all_gather of {count} {dtype} in place");
    }

    // The rings of Gloo and of NCCL add in another order than the oracle; two numbers have but one.
    private static void AssertSum(ProcessGroup group, Tensor actual, byte[] expected, string what)
    {
        if (group.Size > 2 && group.Backend is "gloo" or "nccl" && actual.DType is DType.Float32 or DType.Float64)
        {
            AssertClose(actual, expected, group.Size, what);
        }
        else
        {
            AssertSameBits(actual, expected, what);
        }
    }

    // Gloo's parts are joined in the order of the ranks, as MPI's are.
    private static void AssertPart(ProcessGroup group, Tensor actual, byte[] expected, string what)
    {
        if (group.Backend == "nccl")
        {
            AssertSum(group, actual, expected, what);
        }
        else
        {
            AssertSameBits(actual, expected, what);
        }
    }

    // Inputs are in [-1, 1]: the sum of p of them is off by at most p roundings of a number below p.
    private static void AssertClose(Tensor actual, byte[] expected, int ranks, string what)
    {
        if (actual.DType == DType.Float32)
        {
            Assert.That(actual.ToArray<float>(), Is.EqualTo(MemoryMarshal.Cast<byte, float>(expected).ToArray()).Within(ranks * ranks * 1.2e-7), what);
        }
        else
        {
            Assert.That(actual.ToArray<double>(), Is.EqualTo(MemoryMarshal.Cast<byte, double>(expected).ToArray()).Within(ranks * ranks * 2.3e-16), what);
        }
    }
}

using System.Diagnostics;
using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>How long collectives take on this machine; run by name, not with the others.</summary>
[Explicit]
public sealed class CollectiveTimings
{
    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void Of_four_ranks(string backend) =>
        TestContext.Out.WriteLine(Ranks.Run(Measure, 4, backend, TimeSpan.FromMinutes(2)).Ranks[0].Output);

    private static void Measure(ProcessGroup world)
    {
        Console.WriteLine($"{world.Backend}: microseconds, median; bytes are those of each rank's tensor");
        Console.WriteLine("   bytes  all_to_all  all_reduce  all_gather  uneven_gather  broadcast");
        for (var bytes = 1024L; bytes <= 4 << 20; bytes *= 4)
        {
            using var scope = new TensorScope();
            var (input, output) = (Tensor.Zeros([bytes / 4]), Tensor.Zeros([bytes / 4]));
            var (gathered, part) = (Tensor.Zeros([bytes / 4]), Tensor.Zeros([bytes / 16]));
            long[] rows = [.. Enumerable.Repeat(bytes / 16, 4)];
            long[] uneven = [bytes / 16, 0, bytes / 8, bytes / 16];
            double[] times =
            [
                Median(world, () => world.AllToAll(output, input, rows, rows)),
                Median(world, () => world.AllReduce(output)),
                Median(world, () => world.AllGather(gathered, part)),
                Median(world, () => world.AllGatherAsync(output, output.Narrow(0, uneven[..world.Rank].Sum(), uneven[world.Rank]), uneven).Wait()),
                Median(world, () => world.Broadcast(output, 0)),
            ];
            Console.WriteLine(FormattableString.Invariant($"{bytes,8}{times[0],12:0}{times[1],12:0}{times[2],12:0}{times[3],15:0}{times[4],11:0}"));
        }
    }

    private static double Median(ProcessGroup world, Action collective)
    {
        var times = new List<double>();
        for (var i = 0; i < 50; i++)
        {
            world.Barrier();
            var start = Stopwatch.GetTimestamp();
            collective();
            times.Add(Stopwatch.GetElapsedTime(start).TotalMicroseconds);
        }

        times.Sort();
        return times[times.Count / 2];
    }
}

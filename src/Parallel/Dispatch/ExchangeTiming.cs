using System.Diagnostics;
using Moe.Torch;

namespace Moe.Distributed;

/// <summary>What the exchanges of a dispatch cost on the ranks that are there.</summary>
public static class ExchangeTiming
{
    private const int WarmUps = 2;
    private const int Repeats = 5;

    /// <summary>Seconds for tokens to go out to random experts and come back, median of several times. Every rank of the group calls this.</summary>
    /// <param name="dispatcher">Over the group.</param>
    /// <param name="group">The ranks that hold the experts.</param>
    /// <param name="tokens">Of this rank.</param>
    /// <param name="width">Of a token.</param>
    /// <param name="slots">Experts of a token.</param>
    /// <param name="type">Of the tokens.</param>
    /// <param name="device">Where they stand.</param>
    public static double Seconds(ExchangingDispatcher dispatcher, ProcessGroup group, int tokens, int width, int slots, DType type, Device device)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        var x = Tensor.Zeros([tokens, width], type, device);
        var weights = Tensor.Ones([tokens, slots], type == DType.Float64 ? type : DType.Float32, device);
        var ids = Tensor.From(RandomIds(new Random(group.Rank), tokens, slots, dispatcher.Experts), tokens, slots).To(device);
        var output = x.NewEmpty([tokens, width]);
        var seconds = new double[Repeats];
        for (var run = -WarmUps; run < Repeats; run++)
        {
            group.Barrier();
            var begin = Stopwatch.GetTimestamp();
            GoOutAndBack(dispatcher, x, ids, weights, output);
            if (device.IsCuda)
            {
                CudaRuntime.Synchronize();
            }

            seconds[Math.Max(run, 0)] = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        }

        return seconds.Order().ElementAt(Repeats / 2);
    }

    private static void GoOutAndBack(ExchangingDispatcher dispatcher, Tensor x, Tensor ids, Tensor weights, Tensor output)
    {
        using var scope = new TensorScope();
        var route = dispatcher.Plan(ids, 1)[0];
        using var arrived = route.Send(x, weights).Await();
        using var sums = arrived.NewEmpty([route.ArrivingRows, x.Size(1)]).Zero_();
        using var returned = route.Return(sums).Await();
        route.SumInto(returned, null, output);
    }

    // Each token's experts differ, as a router's choices do.
    private static long[] RandomIds(Random random, int tokens, int slots, int experts)
    {
        var ids = new long[tokens * slots];
        long[] all = [.. Enumerable.Range(0, experts).Select(expert => (long)expert)];
        for (var token = 0; token < tokens; token++)
        {
            for (var slot = 0; slot < slots; slot++)
            {
                var other = random.Next(slot, experts);
                (all[slot], all[other]) = (all[other], all[slot]);
                ids[(token * slots) + slot] = all[slot];
            }
        }

        return ids;
    }
}

using System.Diagnostics;
using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training.Benchmarks;

/// <summary>What all ranks together could do at most, measured with all of them at work: the ceilings that a benchmark is held against.</summary>
/// <param name="ProductsPerSecond">Operations a second in matrix products of 768 x 768 float32 (two a multiplication and addition), sum over ranks.</param>
/// <param name="BytesPerSecond">Bytes read and written a second in copies of 64 MiB, sum over ranks.</param>
internal readonly record struct MachineRates(double ProductsPerSecond, double BytesPerSecond)
{
    private const int Side = 768;
    private const long CopyBytes = 64 << 20;
    private static readonly TimeSpan Duration = TimeSpan.FromSeconds(0.5);

    /// <summary>Measures for about a second. Every rank calls this at the same time.</summary>
    public static MachineRates Measure(ProcessGroup group)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        var (x, y) = (Tensor.Full([Side, Side], 0.5), Tensor.Full([Side, Side], 0.25));
        var product = Tensor.Empty([Side, Side]);
        var (from, to) = (Tensor.Zeros([CopyBytes / sizeof(float)]), Tensor.Zeros([CopyBytes / sizeof(float)]));
        group.Barrier();
        var products = 2.0 * Side * Side * Side * PerSecond(() => x.MatMulInto(y, product));
        group.Barrier();
        var bytes = 2.0 * CopyBytes * PerSecond(() => to.CopyFrom_(from));
        var sums = Tensor.From([products, bytes], 2);
        group.AllReduce(sums);
        var values = sums.ToArray<double>();
        return new MachineRates(values[0], values[1]);
    }

    private static double PerSecond(Action work)
    {
        work();
        var time = Stopwatch.StartNew();
        var done = 0;
        while (time.Elapsed < Duration)
        {
            work();
            done++;
        }

        return done / time.Elapsed.TotalSeconds;
    }
}

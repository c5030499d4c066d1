using System.Diagnostics;
using Moe.Distributed;
using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Training.Benchmarks;

/// <summary>What all ranks together could do at most, measured with all of them at work: the ceilings that a benchmark is held against.</summary>
/// <param name="ProductsPerSecond">
/// Operations a second in matrix products (two a multiplication and addition) of the type that was asked for, sum over ranks: of 768 x 768 on the host, of
/// 8192 x 8192 on a GPU.
/// </param>
/// <param name="BytesPerSecond">Bytes read and written a second in copies of 64 MiB on the host, of 1 GiB on a GPU, sum over ranks.</param>
internal readonly record struct MachineRates(double ProductsPerSecond, double BytesPerSecond)
{
    private const int HostSide = 768;
    private const int CudaSide = 8192;
    private const long HostCopyBytes = 64 << 20;
    private const long CudaCopyBytes = 1 << 30;

    /// <summary>Measures for about three times <paramref name="seconds"/>. Every rank calls this at the same time.</summary>
    /// <param name="group">All ranks.</param>
    /// <param name="device">Of this rank.</param>
    /// <param name="type">Of the products' elements.</param>
    /// <param name="seconds">Of each measurement.</param>
    public static MachineRates Measure(ProcessGroup group, Device device, DType type, double seconds = 0.5)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        var (side, copied) = device.IsCuda ? (CudaSide, CudaCopyBytes) : (HostSide, HostCopyBytes);
        var products = ProductsOfAll(group, device, type, side, seconds);
        var (from, to) = (Tensor.Zeros([copied / sizeof(float)], device: device), Tensor.Zeros([copied / sizeof(float)], device: device));
        group.Barrier();
        return new MachineRates(products, group.AllReduce(2.0 * copied * PerSecond(device, seconds, () => to.CopyFrom_(from))));
    }

    /// <summary>
    /// Operations a second in products of square matrices, sum over ranks: of libtorch's product and the trainer's own the better, since either may be far ahead of the
    /// other in a type. Every rank calls this at the same time.
    /// </summary>
    /// <param name="group">All ranks.</param>
    /// <param name="device">Of this rank.</param>
    /// <param name="type">Of the elements.</param>
    /// <param name="side">Rows of a matrix.</param>
    /// <param name="seconds">How long to measure each of them, about.</param>
    public static double ProductsOfAll(ProcessGroup group, Device device, DType type, int side, double seconds)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        var drawn = Tensor.Empty([side, side]);
        new RandomStream(1, "machine rates").FillNormal(drawn.Span<float>(), 0); // a GPU multiplies zeros faster
        var x = drawn.To(device).To(type);
        var product = x.NewEmpty(x.Shape);
        var (matrices, rows) = (x.Unsqueeze(0), RowGroups.Whole(side));
        Action[] products = [() => x.MatMulInto(x, product), () => GroupedProduct.Rows(x, matrices, rows).Dispose()];
        return products.Max(multiply =>
        {
            group.Barrier();
            return group.AllReduce(2.0 * side * side * side * PerSecond(device, seconds, multiply));
        });
    }

    private static double PerSecond(Device device, double seconds, Action work)
    {
        work();
        Wait(device);
        var time = Stopwatch.StartNew();
        var done = 0;
        while (time.Elapsed.TotalSeconds < seconds)
        {
            for (var i = 0; i < 8; i++)
            {
                work();
            }

            Wait(device);
            done += 8;
        }

        return done / time.Elapsed.TotalSeconds;
    }

    private static void Wait(Device device)
    {
        if (device.IsCuda)
        {
            CudaRuntime.Synchronize();
        }
    }
}

using System.Diagnostics;
using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training.Benchmarks;

/// <summary>Times the calls of kernels, with all ranks at the same kernel.</summary>
/// <remarks>
/// A kernel goes round sets of inputs that together are more than the caches hold, and the results of a round stand beside each other: no call finds its
/// data where the last one left it; what was prepared for a call is driven out of the caches before. A measurement is of several calls, as long as it takes
/// to drown the clock and the start: on a GPU between two marks in the device's work; on the host by its clock until all ranks are done, since ranks that
/// share cores take turns, and one that is done first has only had more than its share.
/// </remarks>
/// <param name="world">All ranks.</param>
/// <param name="device">Of this rank.</param>
/// <param name="warmup">Rounds made first, unmeasured.</param>
/// <param name="repeats">Measurements, at least 1.</param>
internal sealed class KernelTimer(ProcessGroup world, Device device, int warmup, int repeats) : IDisposable
{
    private const int MostSets = 64;
    private const int MostCalls = 10_000;

    // Twice the last cache: 50 MiB of an H100, 32 MiB that eight of an EPYC's cores share, of which a rank may have all while the others wait for their turn.
    private const long DeviceRotation = 128 << 20;
    private const long HostRotation = 64 << 20;

    // Of kernels that touch little of what they are given.
    private const double DeviceMost = 2L << 30;
    private const double HostMost = 256 << 20;

    // Ranks may share cores: some of the scheduler's turns. On a device some launches, each of some 10 us.
    private const double HostSample = 0.010;
    private const double DeviceSample = 0.005;

    private Tensor? _other; // what the caches are filled with in between

    /// <summary>Times a kernel. Every rank calls this with the same kernel.</summary>
    /// <returns>Milliseconds of a call: on a GPU this rank's, but of an exchange, and on the host, until the last rank is done.</returns>
    public Spread Time(KernelBenchmark kernel) => Time(kernel.Make, kernel);

    private long Rotation => device.IsCuda ? DeviceRotation : HostRotation;

    /// <summary>Times the plain form of an exchange, likewise.</summary>
    /// <returns>Milliseconds of a call, median; null where the kernel has no plain form.</returns>
    public double? TimePlain(KernelBenchmark kernel) => kernel.Plain is { } plain ? Time(plain, kernel).Median : null;

    /// <inheritdoc/>
    public void Dispose() => _other?.Dispose();

    private Spread Time(Func<KernelCall> make, KernelBenchmark kernel)
    {
        using var scope = new TensorScope();
        var calls = new KernelCall[Sets(kernel)];
        for (var i = 0; i < calls.Length; i++)
        {
            calls[i] = make();
        }

        var (next, seconds) = (0, 0.0);
        for (var round = 0; round <= warmup; round++)
        {
            seconds = Measure(calls, calls.Length, ref next);
        }

        var count = CallsOfSample(calls, seconds / calls.Length);
        var samples = new double[repeats];
        for (var i = 0; i < repeats; i++)
        {
            samples[i] = 1000 * Measure(calls, count, ref next) / count;
        }

        return Spread.Of(device.IsCuda && kernel.Plain is null ? samples : Slowest(samples));
    }

    // Alike on all ranks, as what follows from it.
    private int Sets(KernelBenchmark kernel)
    {
        var wanted = Math.Ceiling(Rotation / Math.Max(1, kernel.Bytes));
        var possible = Math.Floor((device.IsCuda ? DeviceMost : HostMost) / Math.Max(1, kernel.Held));
        return (int)Agree(Math.Clamp(Math.Min(wanted, possible), 1, MostSets));
    }

    // What is prepared for a call serves one call only.
    private int CallsOfSample(KernelCall[] calls, double seconds)
    {
        var wanted = Math.Clamp(Math.Ceiling((device.IsCuda ? DeviceSample : HostSample) / Math.Max(1e-9, seconds)), 1, MostCalls);
        return (int)Agree(calls[0].Prepare is null ? wanted : Math.Min(wanted, calls.Length));
    }

    private double Agree(double number) => world.AllReduce(number, ReduceOperation.Max);

    private double Measure(KernelCall[] calls, int count, ref int next)
    {
        using var scope = new TensorScope();
        if (calls[0].Prepare is not null)
        {
            for (var i = 0; i < count; i++)
            {
                calls[(next + i) % calls.Length].Prepare!();
            }

            FillCaches();
        }

        if (device.IsCuda)
        {
            CudaRuntime.Synchronize();
        }

        world.Barrier();
        return device.IsCuda ? OnDevice(calls, count, ref next) : OnHost(calls, count, ref next);
    }

    private void FillCaches()
    {
        _other ??= Tensor.Empty([Rotation / sizeof(float)], device: device).Detached();
        _other.Fill_(1);
    }

    // Of ranks that share a core one begins when the other is done: the first to begin sees the whole.
    private double OnHost(KernelCall[] calls, int count, ref int next)
    {
        var begun = Stopwatch.GetTimestamp();
        Call(calls, count, ref next);
        world.Barrier();
        return Stopwatch.GetElapsedTime(begun).TotalSeconds;
    }

    private static double OnDevice(KernelCall[] calls, int count, ref int next)
    {
        using var begun = new CudaEvent();
        using var ended = new CudaEvent();
        begun.Record();
        Call(calls, count, ref next);
        ended.Record();
        return begun.Until(ended).TotalSeconds;
    }

    private static void Call(KernelCall[] calls, int count, ref int next)
    {
        for (var done = 0; done < count;)
        {
            using var round = new TensorScope();
            for (var i = 0; i < calls.Length && done < count; i++, done++)
            {
                calls[next].Run();
                next = (next + 1) % calls.Length;
            }
        }
    }

    private double[] Slowest(double[] samples)
    {
        using var scope = new TensorScope();
        var slowest = Tensor.From(samples, samples.Length);
        world.AllReduce(slowest, ReduceOperation.Max);
        return slowest.ToArray<double>();
    }
}

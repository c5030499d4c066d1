using Moe.Distributed;
using Moe.Torch;
using Moe.Training.Benchmarks;
using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>Operations a second that matrix products of all ranks come to at most: what <c>perf/mfu_pct</c> is a percentage of.</summary>
/// <remarks>
/// As configured, else of a GPU that is known its makers' rate of dense bfloat16 products, else measured: all ranks multiply at the same time, in the type that they compute in.
/// </remarks>
public static class PeakRate
{
    private const double Tera = 1e12;
    private const int HostSide = 384; // a product of some milliseconds on one busy core, and near the best rate
    private const int CudaSide = 4096;

    private const double Seconds = 0.05;

    // TFLOP/s of dense bfloat16 products with float32 sums, from the makers' data sheets. The first name that the device's contains counts.
    private static readonly (string Name, double Tflops)[] Known =
    [
        ("GH200", 989), ("H200 NVL", 835), ("H200", 989), ("H800", 989), ("H100 PCIe", 756), ("H100 NVL", 835), ("H100", 989), ("B200", 2250), ("A100", 312), ("A800", 312),
        ("L40S", 362), ("L40", 181), ("L4", 121), ("A40", 150), ("A30", 165), ("A10", 125), ("RTX 4090", 165), ("RTX 3090", 71),
    ];

    /// <summary>The rate, summed over ranks. Every rank calls this at the same time.</summary>
    /// <param name="config">May name a rank's.</param>
    /// <param name="group">All ranks.</param>
    /// <param name="device">Where this rank computes.</param>
    public static double Of(TrainConfig config, ProcessGroup group, Device device)
    {
        var known = config.PeakTflops ?? (device.IsCuda && config.Precision == Precision.BFloat16 ? OfDevice(CudaRuntime.Describe(device).Name) : null);
        var ranksThatKnow = group.AllReduce(known is null ? 0.0 : 1.0);
        return ranksThatKnow == group.Size ? group.AllReduce(known!.Value * Tera) : MachineRates.ProductsOfAll(group, device, ModelAssembly.ComputeType(config.Precision), device.IsCuda ? CudaSide : HostSide, Seconds);
    }

    /// <summary>TFLOP/s of a GPU in dense bfloat16 products; null where it is not known.</summary>
    /// <param name="name">As in <c>NVIDIA H100 80GB HBM3</c>.</param>
    internal static double? OfDevice(string name)
    {
        var words = $" {name} ";
        if (words.Contains(" MIG ", StringComparison.Ordinal))
        {
            return null; // a slice of a card
        }

        foreach (var (part, tflops) in Known)
        {
            // As whole words, or before what names the form: an A10G is no A10, an A100-SXM4-80GB is an A100.
            if (words.Contains($" {part} ", StringComparison.Ordinal) || words.Contains($" {part}-", StringComparison.Ordinal))
            {
                return tflops;
            }
        }

        return null;
    }
}

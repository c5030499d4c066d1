using Moe.Training.Planning;

namespace Moe.Tests.Training;

/// <summary>Devices of round numbers.</summary>
internal static class DeviceRecords
{
    /// <summary>1 TFLOP/s, 100 GB/s, 1 GiB, links of 10 and 1 GB/s; no overheads.</summary>
    public static DeviceRecord Fast { get; } = new()
    {
        Name = "fast",
        Memory = 1 << 30,
        ProcessMemory = 0,
        Peak = new Dictionary<string, double> { ["float32"] = 1e12 },
        Products = new Dictionary<string, IReadOnlyList<ProductRate>> { ["float32"] = [new(0, 0, 0, 1e12)] },
        Attention = new Dictionary<string, double> { ["float32"] = 1e12 },
        CopyRate = 1e11,
        LaunchTime = 0,
        InsideNode = new(1e10, 0),
        BetweenNodes = new(1e9, 0),
    };
}

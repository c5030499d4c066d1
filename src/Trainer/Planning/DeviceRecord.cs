namespace Moe.Training.Planning;

/// <summary>The rate of one matrix product that was measured.</summary>
/// <param name="Rows">Of the result; 0 where the rate is for large products of any shape.</param>
/// <param name="Columns">Of the result.</param>
/// <param name="Depth">Products that each element sums.</param>
/// <param name="Rate">Operations a second, a multiplication and its addition counted as two.</param>
public readonly record struct ProductRate(long Rows, long Columns, long Depth, double Rate);

/// <summary>How bytes move between two ranks.</summary>
/// <param name="BytesPerSecond">Out of one rank, and as much into it at the same time.</param>
/// <param name="Latency">Seconds of one message, from its start to its end.</param>
public readonly record struct LinkRate(double BytesPerSecond, double Latency);

/// <summary>How reductions and gathers travel.</summary>
public enum CollectiveForm
{
    /// <summary>Every rank sends to every other: the MPI backend's.</summary>
    Direct,

    /// <summary>Rings through all ranks, one for each network card of a node, with a logarithmic number of latencies: NCCL's.</summary>
    Ring,
}

/// <summary>What a rank's device can do. Every number is measured, or taken from where its comment in configs/devices says.</summary>
public sealed record DeviceRecord
{
    /// <summary>As in <c>h100</c>.</summary>
    public required string Name { get; init; }

    /// <summary>What it is, and where the numbers come from.</summary>
    public string Description { get; init; } = "";

    /// <summary>Bytes of memory of a rank; where ranks share a machine, of all of them.</summary>
    public required double Memory { get; init; }

    /// <summary>Bytes that a process takes before it trains: runtime, libraries, context.</summary>
    public required double ProcessMemory { get; init; }

    /// <summary>Cores that all ranks share, on one machine; null where each rank has a device of its own.</summary>
    public double? SharedCores { get; init; }

    /// <summary>Operations a second by type (<c>float32</c>, <c>bfloat16</c>, <c>float64</c>) that utilisation is counted against.</summary>
    public required IReadOnlyDictionary<string, double> Peak { get; init; }

    /// <summary>Rates of matrix products, by type.</summary>
    public required IReadOnlyDictionary<string, IReadOnlyList<ProductRate>> Products { get; init; }

    /// <summary>Rates of products over rows grouped by expert, by type; where a type is missing, those of <see cref="Products"/> hold for each expert.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<ProductRate>> GroupedProducts { get; init; } = new Dictionary<string, IReadOnlyList<ProductRate>>();

    /// <summary>Operations a second of causal attention, the causal half counted, by type; forward and backward together.</summary>
    public required IReadOnlyDictionary<string, double> Attention { get; init; }

    /// <summary>Bytes read and written a second in a copy.</summary>
    public required double CopyRate { get; init; }

    /// <summary>Seconds that one operator takes of its host, however little it does.</summary>
    public required double LaunchTime { get; init; }

    /// <summary>Seconds an element of kernels that were measured, by <see cref="KernelKind"/>'s names; others take the time of their bytes.</summary>
    public IReadOnlyDictionary<string, double> Kernels { get; init; } = new Dictionary<string, double>();

    /// <summary>Ranks of a node for which <see cref="InsideNode"/> holds.</summary>
    public required LinkRate InsideNode { get; init; }

    /// <summary>Between two nodes.</summary>
    public required LinkRate BetweenNodes { get; init; }

    /// <summary>How reductions and gathers travel.</summary>
    public CollectiveForm Collectives { get; init; }

    /// <summary>How much longer than the mean rank the last one takes from one meeting of all to the next; 1 where nothing disturbs them.</summary>
    public double Straggling { get; init; } = 1;

    /// <summary>Times that a rank's work takes longer since it shares its cores.</summary>
    /// <param name="ranks">Of the job.</param>
    public double Sharing(int ranks) => SharedCores is { } cores ? Math.Max(1, ranks / cores) : 1;

    /// <summary>Seconds of a matrix product.</summary>
    /// <param name="type">Of the elements.</param>
    /// <param name="isGrouped">Whether rows are grouped by expert.</param>
    /// <param name="rows">Of the result, of one expert.</param>
    /// <param name="columns">Of the result.</param>
    /// <param name="depth">Products summed.</param>
    /// <param name="count">Such products, which a grouped product makes at once.</param>
    /// <param name="elementSize">Bytes of an element.</param>
    public double ProductTime(string type, bool isGrouped, double rows, long columns, long depth, double count, int elementSize)
    {
        var operations = 2.0 * rows * columns * depth * count;
        var bytes = ((rows * (columns + depth)) + ((double)columns * depth)) * count * elementSize;
        if (isGrouped && GroupedProducts.TryGetValue(type, out var grouped))
        {
            return LaunchTime + Math.Max(operations / Nearest(grouped, rows, columns, depth), bytes / CopyRate);
        }

        var table = Products.TryGetValue(type, out var rates) ? rates : Products["float32"];
        return (count * LaunchTime) + Math.Max(operations / Nearest(table, rows, columns, depth), bytes / CopyRate);
    }

    /// <summary>Seconds of a kernel that passes over memory.</summary>
    /// <param name="kind">Its name.</param>
    /// <param name="elements">Over which it passes.</param>
    /// <param name="bytesPerElement">Read and written.</param>
    /// <param name="launches">Kernels.</param>
    public double KernelTime(string kind, double elements, double bytesPerElement, double launches) =>
        (launches * LaunchTime) + (elements * (Kernels.TryGetValue(kind, out var measured) ? measured : bytesPerElement / CopyRate));

    // Rates change slowly with the shape: that of the nearest measured one, by the ratios of the sides.
    private static double Nearest(IReadOnlyList<ProductRate> table, double rows, long columns, long depth)
    {
        var nearest = table[0];
        var least = double.MaxValue;
        foreach (var rate in table)
        {
            var distance = rate.Rows == 0 ? 0 : Squared(rate.Rows, rows) + Squared(rate.Columns, columns) + Squared(rate.Depth, depth);
            if (distance < least)
            {
                (nearest, least) = (rate, distance);
            }
        }

        return nearest.Rate;

        static double Squared(double x, double y) => Math.Log(x / Math.Max(y, 1)) * Math.Log(x / Math.Max(y, 1));
    }
}

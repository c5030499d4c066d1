using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training.Benchmarks;

/// <summary>What a kernel's time is held against.</summary>
internal enum CeilingKind
{
    /// <summary>Its bytes at the rate of a large copy.</summary>
    Copy,

    /// <summary>Its operations at the rate of a large matrix product.</summary>
    Products,

    /// <summary>The same amount of data in a plain exchange.</summary>
    Exchange,
}

/// <summary>The least time that a call could take.</summary>
/// <param name="Kind">What binds.</param>
/// <param name="Milliseconds">At least 0.</param>
internal readonly record struct Ceiling(CeilingKind Kind, double Milliseconds);

/// <summary>What one rank can do at most while all ranks are at work.</summary>
/// <param name="BytesPerSecond">Read and written by a large copy.</param>
/// <param name="ProductsPerSecond">Operations of a large matrix product, by the type of its elements.</param>
internal sealed record KernelCeilings(double BytesPerSecond, IReadOnlyDictionary<DType, double> ProductsPerSecond)
{
    /// <summary>Measures for about twice <paramref name="seconds"/> a type. Every rank calls this at the same time.</summary>
    /// <param name="world">All ranks.</param>
    /// <param name="device">Of this rank.</param>
    /// <param name="types">Of the products; at least one, the same on every rank.</param>
    /// <param name="seconds">Of each rate.</param>
    public static KernelCeilings Measure(ProcessGroup world, Device device, IReadOnlyList<DType> types, double seconds)
    {
        var rates = types.Distinct().ToDictionary(type => type, type => MachineRates.Measure(world, device, type, seconds));
        return new KernelCeilings(
            rates[types[0]].BytesPerSecond / world.Size, rates.ToDictionary(rate => rate.Key, rate => rate.Value.ProductsPerSecond / world.Size));
    }

    /// <summary>The higher of two measurements, each by itself: what disturbs one of them is no limit of the machine.</summary>
    public KernelCeilings OrHigher(KernelCeilings other) => new(
        Math.Max(BytesPerSecond, other.BytesPerSecond), ProductsPerSecond.ToDictionary(rate => rate.Key, rate => Math.Max(rate.Value, other.ProductsPerSecond[rate.Key])));

    /// <summary>The nearest ceiling of a kernel: the plain exchange where it has one, else the longer of its bytes and its operations.</summary>
    /// <param name="kernel">What is measured.</param>
    /// <param name="type">Of its products, unless it names another.</param>
    /// <param name="plainMilliseconds">What <see cref="KernelBenchmark.Plain"/> took; null where there is none.</param>
    public Ceiling Of(KernelBenchmark kernel, DType type, double? plainMilliseconds)
    {
        if (plainMilliseconds is { } plain)
        {
            return new Ceiling(CeilingKind.Exchange, plain);
        }

        var copy = 1000 * kernel.Bytes / BytesPerSecond;
        var products = kernel.Operations > 0 ? 1000 * kernel.Operations / ProductsPerSecond[kernel.ProductType ?? type] : 0;
        return products > copy ? new Ceiling(CeilingKind.Products, products) : new Ceiling(CeilingKind.Copy, copy);
    }
}

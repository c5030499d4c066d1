using Moe.Torch;

namespace Moe.Training.Benchmarks;

/// <summary>When a training step calls a kernel.</summary>
internal enum KernelPass
{
    /// <summary>From tokens to loss.</summary>
    Forward,

    /// <summary>From the loss to gradients.</summary>
    Backward,

    /// <summary>After the last backward.</summary>
    Update,
}

/// <summary>A kernel over inputs of its own.</summary>
/// <param name="Run">One call, which is timed. What it makes belongs to the scope that is open then.</param>
/// <param name="Prepare">What one call needs each time anew, which is not timed; null for nothing.</param>
internal readonly record struct KernelCall(Action Run, Action? Prepare = null);

/// <summary>One kernel as a benchmark times it: what it is, what it has to move and to compute, and how it is called.</summary>
/// <param name="Name">As in <c>router choice</c>.</param>
/// <param name="Shape">Of its inputs, for the reader.</param>
/// <param name="Pass">Which part of a step it belongs to.</param>
/// <param name="Bytes">
/// What it cannot do without: each element of its inputs read once, each of its results written once. Of an exchange, what leaves this rank for others.
/// </param>
/// <param name="Operations">In matrix products, a multiplication and its addition counted as two; 0 for what passes over memory.</param>
/// <param name="Make">Makes a set of inputs, each time in other memory. Every rank makes as many.</param>
internal sealed record KernelBenchmark(string Name, string Shape, KernelPass Pass, double Bytes, double Operations, Func<KernelCall> Make)
{
    /// <summary>How often a step calls it on this rank; 0 for what is made up of other lines, or what the configured device doesn't call.</summary>
    public double CallsPerStep { get; init; }

    /// <summary>Type of its products, where that isn't the activations'.</summary>
    public DType? ProductType { get; init; }

    /// <summary>Bytes that a set of inputs takes of the memory, where that is more than a call touches.</summary>
    public double Held { get; init; } = Bytes;

    /// <summary>Of an exchange: the same amount in equal parts and one piece, which it is held against.</summary>
    public Func<KernelCall>? Plain { get; init; }
}

namespace Moe.Training.Benchmarks;

/// <summary>What a benchmark found of one kernel.</summary>
/// <param name="Name">As in <c>router choice</c>.</param>
/// <param name="Shape">Of its inputs.</param>
/// <param name="Direction"><c>forward</c>, <c>backward</c> or <c>update</c>.</param>
/// <param name="Ms">Milliseconds of a call, median; of an exchange, and on the host, on the slowest rank.</param>
/// <param name="MsP10">A tenth of the measurements are below.</param>
/// <param name="MsP90">A tenth are above.</param>
/// <param name="Bytes">That a call must read and write at least; of an exchange, that leave the rank.</param>
/// <param name="Operations">In matrix products.</param>
/// <param name="Ceiling">What binds it: <c>copy</c>, <c>products</c> or <c>exchange</c>.</param>
/// <param name="CeilingMs">Milliseconds that a call would take there.</param>
/// <param name="CallsPerStep">Calls of a training step on a rank; 0 for what other lines make up, or what this device doesn't call.</param>
public sealed record KernelRow(
    string Name,
    string Shape,
    string Direction,
    double Ms,
    double MsP10,
    double MsP90,
    double Bytes,
    double Operations,
    string Ceiling,
    double CeilingMs,
    double CallsPerStep)
{
    /// <summary>10^9 bytes a second.</summary>
    public double GbPerS => Bytes / Ms / 1e6;

    /// <summary>10^12 operations a second.</summary>
    public double Tflops => Operations / Ms / 1e9;

    /// <summary>The ceiling's time as a percentage of the call's: 100 is as fast as it can be.</summary>
    public double OfCeilingPct => 100 * CeilingMs / Ms;
}

/// <summary>What a benchmark found of a family of kernels, as rank 0 saw it.</summary>
/// <param name="Bench">One of <see cref="KernelBench.Names"/>.</param>
/// <param name="Ranks">That were at work at once.</param>
/// <param name="CopyGbPerS">10^9 bytes a second that a rank reads and writes in a large copy.</param>
/// <param name="ProductTflops">10^12 operations a second of a rank in a large product of the activations' type.</param>
/// <param name="Kernels">One a kernel and direction.</param>
public sealed record KernelReport(string Bench, int Ranks, double CopyGbPerS, double ProductTflops, IReadOnlyList<KernelRow> Kernels)
{
    /// <summary>Milliseconds that these kernels take of a training step.</summary>
    public double MsPerStep => Kernels.Sum(kernel => kernel.CallsPerStep * kernel.Ms);

    /// <summary>Milliseconds that they would take at their ceilings.</summary>
    public double CeilingMsPerStep => Kernels.Sum(kernel => kernel.CallsPerStep * kernel.CeilingMs);
}

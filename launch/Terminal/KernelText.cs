using System.Globalization;
using Moe.Training.Benchmarks;

namespace Moe.Launch.Terminal;

/// <summary>A benchmark of kernels as a table for people: a line a kernel and direction, and what they cost a step.</summary>
internal static class KernelText
{
    private static readonly string[] Headings = ["kernel", "", "shape", "ms", "p10", "p90", "MB", "GFLOP", "reached", "ceiling", "of it", "a step"];

    private static readonly int[] Numbers = [3, 4, 5, 6, 7, 8, 10, 11];

    public static void Write(TextWriter output, KernelReport report)
    {
        output.WriteLine(MetricText.Invariant($"ceilings of a rank, {report.Ranks} at work: copy {report.CopyGbPerS:G4} GB/s, products {Rate(report.ProductTflops)}"));
        foreach (var line in TextTable.Lines([Headings, .. report.Kernels.Select(Cells)], int.MaxValue, Numbers))
        {
            output.WriteLine(line);
        }

        output.WriteLine(MetricText.Invariant(
            $"of a step: {Time(report.MsPerStep)} ms, {Time(report.CeilingMsPerStep)} ms at the ceilings ({Share(report.CeilingMsPerStep / report.MsPerStep)})"));
    }

    private static string[] Cells(KernelRow kernel) =>
    [
        kernel.Name,
        kernel.Direction,
        kernel.Shape,
        Time(kernel.Ms),
        Time(kernel.MsP10),
        Time(kernel.MsP90),
        Amount(kernel.Bytes / 1e6),
        kernel.Operations == 0 ? "" : Amount(kernel.Operations / 1e9),
        kernel.Operations == 0 ? MetricText.Invariant($"{kernel.GbPerS:G3} GB/s") : Rate(kernel.Tflops),
        kernel.Ceiling,
        Share(kernel.OfCeilingPct / 100),
        kernel.CallsPerStep == 0 ? "" : MetricText.Invariant($"x {kernel.CallsPerStep:0}"),
    ];

    private static string Time(double milliseconds) => milliseconds.ToString(milliseconds >= 100 ? "0.0" : "0.000", CultureInfo.InvariantCulture);

    private static string Amount(double number) => number switch
    {
        >= 100 => number.ToString("N0", CultureInfo.InvariantCulture),
        >= 1 => number.ToString("0.00", CultureInfo.InvariantCulture),
        _ => number.ToString("0.0000", CultureInfo.InvariantCulture),
    };

    private static string Rate(double tflops) => tflops >= 1 ? MetricText.Invariant($"{tflops:0.0} TFLOP/s") : MetricText.Invariant($"{1000 * tflops:0.0} GFLOP/s");

    private static string Share(double share) => MetricText.Invariant($"{100 * share:0} %");
}

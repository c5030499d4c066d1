using Moe.Training.Benchmarks;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What holds for the rows of every benchmark.</summary>
internal static class KernelRows
{
    public static KernelRow Of(KernelReport report, string name, string direction) =>
        report.Kernels.Single(kernel => kernel.Name == name && kernel.Direction == direction);

    public static void AssertSound(KernelReport report)
    {
        Assert.That(report.CopyGbPerS, Is.GreaterThan(0));
        Assert.That(report.ProductTflops, Is.GreaterThan(0));
        Assert.That(report.Kernels.Select(kernel => (kernel.Name, kernel.Direction)), Is.Unique);
        foreach (var kernel in report.Kernels)
        {
            Assert.That(kernel.Ms, Is.GreaterThan(0).And.InRange(kernel.MsP10, kernel.MsP90), kernel.Name);
            Assert.That(kernel.Bytes, Is.GreaterThanOrEqualTo(0), kernel.Name);
            Assert.That(kernel.CeilingMs, Is.GreaterThan(0), kernel.Name);
            Assert.That(kernel.OfCeilingPct, Is.EqualTo(100 * kernel.CeilingMs / kernel.Ms).Within(1e-9), kernel.Name);
        }

        Assert.That(report.MsPerStep, Is.EqualTo(report.Kernels.Sum(kernel => kernel.Ms * kernel.CallsPerStep)).Within(1e-9).And.GreaterThan(0));
    }
}

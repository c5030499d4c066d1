using Moe.Training.Benchmarks;
using NUnit.Framework;

namespace Moe.Tests.Training;

internal sealed class SpreadTests
{
    [TestCase(new[] { 7.0 }, 7, 7, 7)]
    [TestCase(new[] { 4.0, 1.0 }, 2.5, 1.3, 3.7)]
    [TestCase(new[] { 40.0, 10.0, 30.0, 20.0 }, 25, 13, 37)]
    [TestCase(new[] { 9.0, 0.0, 6.0, 3.0, 12.0 }, 6, 1.2, 10.8)]
    [TestCase(new[] { 10.0, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0 }, 5, 1, 9)]
    public void What_lies_between_two_measurements_is_interpolated(double[] measurements, double median, double low, double high)
    {
        var spread = Spread.Of(measurements);
        Assert.That(new[] { spread.Median, spread.Low, spread.High }, Is.EqualTo(new[] { median, low, high }).Within(1e-12));
    }
}

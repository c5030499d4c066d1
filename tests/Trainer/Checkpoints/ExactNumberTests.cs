using System.Text.Json;
using Moe.Training.Checkpoints;
using NUnit.Framework;

namespace Moe.Tests.Checkpoints;

public class ExactNumberTests
{
    private static readonly JsonSerializerOptions Exact = new() { Converters = { new ExactNumber() } };

    [Test]
    public void Every_power_of_two_reads_back_as_the_same_bits() =>
        Assert.That(Enumerable.Range(-1074, 2098).Select(power => Math.ScaleB(1, power)), Has.All.Matches<double>(ReadsBack));

    [Test]
    public void Random_bits_read_back() =>
        Assert.That(Enumerable.Range(0, 10_000).Select(_ => BitConverter.Int64BitsToDouble(Random.Shared.NextInt64())).Where(double.IsFinite), Has.All.Matches<double>(ReadsBack));

    [TestCase(double.NaN)]
    [TestCase(double.NegativeInfinity)]
    public void What_is_not_finite_is_refused(double value) =>
        Assert.That(() => JsonSerializer.Serialize(value, Exact), Throws.ArgumentException);

    private static bool ReadsBack(double value) =>
        BitConverter.DoubleToInt64Bits(JsonSerializer.Deserialize<double>(JsonSerializer.Serialize(value, Exact))) == BitConverter.DoubleToInt64Bits(value);
}

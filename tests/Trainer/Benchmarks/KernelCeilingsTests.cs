using Moe.Launch.Terminal;
using Moe.Torch;
using Moe.Training.Benchmarks;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Ceilings, and what is told of them.</summary>
internal sealed class KernelCeilingsTests
{
    private static readonly KernelCeilings Ceilings = new(1e9, new Dictionary<DType, double> { [DType.Float32] = 1e12, [DType.BFloat16] = 4e12 });

    [TestCase(3e6, 0, CeilingKind.Copy, 3)]
    [TestCase(3e6, 2e9, CeilingKind.Copy, 3)]
    [TestCase(3e6, 5e9, CeilingKind.Products, 5)]
    public void What_takes_longer_binds(double bytes, double operations, CeilingKind kind, double milliseconds) =>
        Assert.That(Ceilings.Of(Kernel(bytes, operations), DType.Float32, plainMilliseconds: null), Is.EqualTo(new Ceiling(kind, milliseconds)));

    [Test]
    public void Products_are_held_against_the_rate_of_their_own_type() =>
        Assert.That(Ceilings.Of(Kernel(1, 8e9) with { ProductType = DType.BFloat16 }, DType.Float32, null), Is.EqualTo(new Ceiling(CeilingKind.Products, 2)));

    [Test]
    public void Exchange_is_held_against_the_plain_one() =>
        Assert.That(Ceilings.Of(Kernel(3e6, 0), DType.Float32, 0.5), Is.EqualTo(new Ceiling(CeilingKind.Exchange, 0.5)));

    [Test]
    public void Higher_of_two_measurements_counts_each_rate_by_itself()
    {
        var higher = Ceilings.OrHigher(new KernelCeilings(2e9, new Dictionary<DType, double> { [DType.Float32] = 0.5e12, [DType.BFloat16] = 5e12 }));

        Assert.That(higher.BytesPerSecond, Is.EqualTo(2e9));
        Assert.That(higher.ProductsPerSecond, Is.EquivalentTo(new Dictionary<DType, double> { [DType.Float32] = 1e12, [DType.BFloat16] = 5e12 }));
    }

    [Test]
    public void Row_tells_rates_and_its_share_of_the_ceiling()
    {
        var row = Row("a", calls: 3);

        Assert.That((row.GbPerS, row.Tflops, row.OfCeilingPct), Is.EqualTo((1.5, 3.0, 25.0)));
    }

    [Test]
    public void Table_has_a_line_a_kernel_and_what_a_step_pays_for_those_that_it_calls()
    {
        using var output = new StringWriter();
        KernelText.Write(output, new KernelReport("experts", 4, 20, 0.2, [Row("a", calls: 3), Row("b", calls: 0)]));

        var lines = output.ToString().TrimEnd().Split('\n');
        Assert.That(lines, Has.Length.EqualTo(5));
        Assert.That(lines[0], Is.EqualTo("ceilings of a rank, 4 at work: copy 20 GB/s, products 200.0 GFLOP/s"));
        Assert.That(lines[2], Does.Match(@"^a +forward +\[2, 3\] +2\.000 +1\.000 +4\.000 +3\.00 +6\.00 +3\.0 TFLOP/s +products +25 % +x 3$"));
        Assert.That(lines[3], Does.StartWith("b ").And.EndsWith("25 %"));
        Assert.That(lines[4], Is.EqualTo("of a step: 6.000 ms, 1.500 ms at the ceilings (25 %)"));
    }

    [Test]
    public void Rank_refuses_a_family_that_there_is_none_of()
    {
        string[] arguments = ["bench", "--config", "x.yaml", "--kernels", "gather"];

        Assert.That(() => RankArguments.Parse(arguments), Throws.TypeOf<FormatException>().With.Message.Contains("dispatch, experts, attention, head, optimizer"));
        Assert.That(RankArguments.Parse([.. arguments[..4], "head"]).Kernels, Is.EqualTo("head"));
    }

    private static KernelBenchmark Kernel(double bytes, double operations) => new("a", "", KernelPass.Forward, bytes, operations, () => default);

    private static KernelRow Row(string name, double calls) => new(name, "[2, 3]", "forward", 2, 1, 4, 3e6, 6e9, "products", 0.5, calls);
}

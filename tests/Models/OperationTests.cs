using Moe.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

/// <summary>Every operation with a backward of its own, against the same by recorded operators, in float64.</summary>
public class OperationTests : ScopedTests
{
    [TestCase(1, 1)]
    [TestCase(5, 7)]
    [TestCase(33, 64)]
    [TestCase(0, 8)]
    public void RmsNorm_equals_its_reference(int rows, int width) =>
        Oracle.AssertSame(
            Random,
            x => RmsNorm.Apply(x[0], x[1], 1e-5),
            x => RmsNorm.Reference(x[0], x[1], 1e-5),
            [Random.Normal([rows, width]), Random.Normal([width])]);

    [Test]
    public void RmsNorm_keeps_a_row_of_zeros_at_zero_with_finite_gradients()
    {
        var x = Tensor.Zeros([1, 4], DType.Float64).Leaf();
        var y = RmsNorm.Apply(x, Tensor.Ones([4], DType.Float64), 1e-5);
        Autograd.Backward(y.Sum());
        Assert.That(y.ToArray<double>(), Is.All.Zero);
        Assert.That(x.Gradient!.ToArray<double>(), Is.All.EqualTo(1 / Math.Sqrt(1e-5)).Within(1e-9));
    }

    [Test]
    public void RmsNorm_of_bfloat16_is_rounded_once()
    {
        var x = Random.Normal([9, 32], 1, DType.BFloat16);
        var weight = Random.Normal([32], 1, DType.Float32);
        var exact = RmsNorm.Apply(x.To(DType.Float32), weight, 1e-5).To(DType.BFloat16);
        Assert.That(RmsNorm.Apply(x, weight, 1e-5).ToArray<BFloat16>(), Is.EqualTo(exact.ToArray<BFloat16>()));
    }

    [TestCase(1, 1, 1, 1)]
    [TestCase(2, 5, 4, 4)]
    [TestCase(3, 16, 4, 2)]
    [TestCase(2, 9, 6, 1)]
    [TestCase(0, 4, 2, 2)]
    public void CausalAttention_equals_its_reference(int sequences, int length, int heads, int keyValueHeads)
    {
        using var rotary = new RotaryTable(length + 3, 6, 100);
        Oracle.AssertSame(
            Random,
            x => CausalAttention.Apply(x[0], rotary, heads, keyValueHeads, length),
            x => CausalAttention.Reference(x[0], rotary, heads, keyValueHeads, length),
            [Random.Normal([sequences * length, (heads + 2 * keyValueHeads) * 6])]);
    }

    [Test]
    public void Shared_key_heads_equal_repeated_ones()
    {
        using var rotary = new RotaryTable(8, 4, 100);
        var projection = Random.Normal([16, (4 + 2 * 2) * 4]);
        var parts = projection.View(16, 8, 4).Split([4, 2, 2], 1);
        var repeated = Shaping.Concatenate([parts[0], Twice(parts[1]), Twice(parts[2])], 1).View(16, 12 * 4);
        Assert.That(
            Oracle.Difference(CausalAttention.Apply(projection, rotary, 4, 2, 8), CausalAttention.Apply(repeated, rotary, 4, 4, 8)), Is.LessThan(1e-12));

        static Tensor Twice(Tensor heads) => heads.Unsqueeze(2).Expand(16, 2, 2, 4).Reshape(16, 4, 4);
    }

    [Test]
    public void Rotary_products_depend_on_the_distance_only()
    {
        using var rotary = new RotaryTable(40, 8, 100);
        var projection = Random.Normal([1, 3 * 8]).Expand(40, 3 * 8).Contiguous();
        var (query, key, _) = RotaryHeads.Apply(projection, rotary, 1, 1, 40);
        var expected = Product(7, 2);
        Assert.That(new[] { Product(5, 0), Product(20, 15), Product(39, 34) }, Is.All.EqualTo(expected).Within(1e-12));
        Assert.That(Product(7, 3), Is.Not.EqualTo(expected).Within(1e-6));

        double Product(int at, int from) => (query.Select(1, at) * key.Select(1, from)).Sum().Item();
    }

    [TestCase(3, 0, 5)]
    [TestCase(0, 0, 0)]
    [TestCase(0, 8, 0)]
    [TestCase(1, 1, 1)]
    public void GroupedSwiGlu_equals_its_reference(params int[] rowsPerExpert)
    {
        var counts = Array.ConvertAll(rowsPerExpert, n => (long)n);
        Oracle.AssertSame(
            Random,
            x => GroupedSwiGlu.Apply(x[0], x[1], x[2], RowGroups.Of(counts)),
            x => GroupedSwiGlu.Reference(x[0], x[1], x[2], counts),
            [Random.Normal([counts.Sum(), 5]), Random.Normal([counts.Length, 2 * 7, 5]), Random.Normal([counts.Length, 5, 7])]);
        Oracle.AssertSame(
            Random,
            x => GroupedSwiGlu.Apply(x[0], x[1], x[2], RowGroups.Of(counts), x[3]),
            x => GroupedSwiGlu.Reference(x[0], x[1], x[2], counts, x[3]),
            [Random.Normal([counts.Sum(), 5]), Random.Normal([counts.Length, 2 * 7, 5]), Random.Normal([counts.Length, 5, 7]), Random.Normal([counts.Sum()])]);
    }

    [Test]
    public void Expert_without_rows_has_a_gradient_of_zeros()
    {
        var gateUp = Random.Normal([2, 6, 4]).Leaf();
        var down = Random.Normal([2, 4, 3]).Leaf();
        Autograd.Backward(GroupedSwiGlu.Apply(Random.Normal([5, 4]), gateUp, down, RowGroups.Of(0, 5)).Sum());
        Assert.That(gateUp.Gradient!.Select(0, 0).ToArray<double>(), Is.All.Zero);
        Assert.That(down.Gradient!.Select(0, 0).ToArray<double>(), Is.All.Zero);
        Assert.That(gateUp.Gradient!.Select(0, 1).Abs().Max().Item(), Is.GreaterThan(0));
    }
}

using Moe.Models;
using Moe.Tests.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class AttentionTests(Device device) : ScopedTests
{
    private static readonly DType[] Types = [DType.Float32, DType.Float64, DType.BFloat16];

    // Sequences, tokens, query heads, key and value heads, head width.
    private static readonly int[][] Shapes =
    [
        [1, 1, 1, 1, 2], [2, 5, 4, 4, 6], [3, 16, 4, 2, 32], [2, 17, 6, 1, 8], [2, 128, 4, 4, 32], [1, 300, 2, 1, 48], [1, 261, 2, 2, 128], [0, 4, 2, 2, 8],
        [2, 8, 2, 2, 16], [1, 24, 2, 1, 32], [1, 31, 1, 1, 64], [1, 136, 2, 2, 16], [1, 145, 1, 1, 20], // ends within a tile of queries and within a block of keys
    ];

    [Test]
    public void Attention_equals_its_reference([ValueSource(nameof(Types))] DType dtype, [ValueSource(nameof(Shapes))] int[] shape)
    {
        var oracle = new KernelOracle(Random, device, dtype);
        var (sequences, length, heads, shared, width) = (shape[0], shape[1], shape[2], shape[3], shape[4]);
        using var rotary = new RotaryTable(length + 3, width, 100);
        oracle.AssertSame(
            x => [CausalAttention.Apply(x[0], rotary, heads, shared, length)],
            x => [CausalAttention.Reference(x[0], rotary, heads, shared, length)],
            [oracle.Normal(sequences * length, (heads + 2 * shared) * width)]);
    }

    [Test]
    public void Rotary_heads_equal_their_reference([ValueSource(nameof(Types))] DType dtype, [ValueSource(nameof(Shapes))] int[] shape)
    {
        var oracle = new KernelOracle(Random, device, dtype);
        var (sequences, length, heads, shared, width) = (shape[0], shape[1], shape[2], shape[3], shape[4]);
        using var rotary = new RotaryTable(length + 3, width, 100);
        oracle.AssertSame(
            x => RotaryHeads.Apply(x[0], rotary, heads, shared, length) is var (query, key, value) ? [query, key, value] : [],
            x => RotaryHeads.Reference(x[0], rotary, heads, shared, length) is var (query, key, value) ? [query, key, value] : [],
            [oracle.Normal(sequences * length, (heads + 2 * shared) * width)]);
    }

    [Test]
    public void Heads_that_nothing_depends_on_have_no_gradient([ValueSource(nameof(Types))] DType dtype, [Values(0, 1, 2)] int used)
    {
        var oracle = new KernelOracle(Random, device, dtype);
        using var rotary = new RotaryTable(7, 8, 100);
        oracle.AssertSame(
            x => [Pick(RotaryHeads.Apply(x[0], rotary, 3, 1, 7))], x => [Pick(RotaryHeads.Reference(x[0], rotary, 3, 1, 7))], [oracle.Normal(14, 5 * 8)]);

        Tensor Pick((Tensor Query, Tensor Key, Tensor Value) heads) => used == 0 ? heads.Query : used == 1 ? heads.Key : heads.Value;
    }

    [Test]
    public void Large_scores_neither_overflow_nor_lose_the_sum([ValueSource(nameof(Types))] DType dtype)
    {
        var oracle = new KernelOracle(Random, device, dtype);
        using var rotary = new RotaryTable(200, 16, 100);
        var projection = oracle.Normal(200, 3 * 16) * 16.0;
        using var unrecorded = Autograd.NoGrad();
        var actual = CausalAttention.Apply(projection.To(dtype).To(device), rotary, 1, 1, 200);
        var expected = CausalAttention.Reference(projection, rotary, 1, 1, 200);
        var found = actual.To(Device.Cpu).To(DType.Float64);
        if (device.IsCuda && dtype == DType.BFloat16)
        {
            Assert.That(found.IsFinite().All().Item(), Is.EqualTo(1), "turned heads are rounded there, which is whole units of such scores");
            return;
        }

        Assert.That(
            (found - expected).Norm().Item() / expected.Norm().Item(),
            Is.LessThan(dtype == DType.Float64 ? 1e-12 : dtype == DType.Float32 ? 1e-4 : 2e-2),
            "scores of a thousand are rounded to a ten-thousandth in float32");
    }

    [Test]
    public void A_number_that_is_none_in_a_key_reaches_every_query_behind_it()
    {
        using var rotary = new RotaryTable(40, 8, 100);
        var projection = Random.Normal([40, 3 * 8], 1, DType.Float32);
        projection.Span<float>()[20 * 24 + 8] = float.NaN; // key of token 20
        var output = CausalAttention.Apply(projection.To(device), rotary, 1, 1, 40).ToArray<float>();
        Assert.That(output.AsSpan(0, 20 * 8).ToArray(), Has.None.NaN);
        Assert.That(output.AsSpan(20 * 8).ToArray(), Is.All.NaN);
    }

    // Work space goes from one sequence to the next.
    [Test]
    public void Numbers_that_are_none_stay_in_their_sequence([ValueSource(nameof(Types))] DType dtype, [Values(6, 16, 20)] int width)
    {
        const int length = 20, sequences = 8;
        using var rotary = new RotaryTable(length, width, 100);
        var projection = Random.Normal([sequences * length, 3 * width], 1, dtype);
        projection.Narrow(0, 0, 1).Fill_(double.NaN);
        var leaf = projection.To(device).Leaf();
        Autograd.Backward(CausalAttention.Apply(leaf, rotary, 1, 1, length).Sum());
        var gradient = leaf.Gradient!.Narrow(0, length, (sequences - 1) * length);
        Assert.That(gradient.IsFinite().All().Item(), Is.EqualTo(1));
    }

    [Test]
    public void More_tokens_than_the_table_holds_are_refused()
    {
        using var rotary = new RotaryTable(7, 8, 100);
        Assert.That(
            () => CausalAttention.Apply(Tensor.Zeros([8, 24], device: device), rotary, 1, 1, 8),
            Throws.TypeOf<TorchException>().With.Message.Contains("angles"));
    }
}

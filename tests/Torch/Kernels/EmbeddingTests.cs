using Moe.Models;
using Moe.Torch;
using Moe.Torch.Kernels;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class EmbeddingTests(Device device) : KernelTests(device)
{
    /// <summary>How tokens are drawn.</summary>
    public enum Draw
    {
        Evenly,
        MostlyOne,
        Few,
        Same,
    }

    [Test]
    public void Rows_and_the_tables_gradient_equal_their_reference(
        [Values(0, 1, 33, 1000)] int places,
        [Values(1, 5, 300)] int vocabulary,
        [Values(1, 24, 520)] int width,
        [Values] Draw draw,
        [ValueSource(typeof(KernelTests), nameof(Types))] DType type)
    {
        var tokens = Tokens(places, vocabulary, draw);
        var table = Leaf(Normal(type, vocabulary, width));
        var wide = Leaf(Wide(table));
        var (actual, expected) = (Embedding.Apply(table, tokens), Embedding.Reference(wide, tokens.To(Device.Cpu)));
        Assert.That(Numbers(actual), Is.EqualTo(Numbers(expected)));

        var seed = Whole(type, places, width);
        Autograd.Backward(actual, seed);
        Autograd.Backward(expected, Wide(seed));
        Assert.That(Numbers(table.Gradient!), Is.EqualTo(Numbers(wide.Gradient!.To(type))));
    }

    [Test]
    public void A_gradient_at_an_odd_address_is_added_up_too()
    {
        var tokens = Tokens(200, 7, Draw.MostlyOne);
        var arriving = Normal(DType.BFloat16, (200 * 16) + 1).Narrow(0, 1, 200 * 16).View(200, 16);
        var wide = Leaf(Tensor.Zeros([7, 16], DType.Float64));
        Autograd.Backward(Embedding.Reference(wide, tokens.To(Device.Cpu)), Wide(arriving));
        MustBeClose(EmbeddingKernel.Backward(arriving, tokens, 7), wide.Gradient!, "gradient of the table");
    }

    [Test]
    public void The_gradient_has_the_same_bits_each_time([Values] Draw draw, [ValueSource(typeof(KernelTests), nameof(Types))] DType type)
    {
        var (tokens, arriving) = (Tokens(5000, 40, draw), Normal(type, 5000, 24));
        var first = Numbers(EmbeddingKernel.Backward(arriving, tokens, 40));
        for (var i = 0; i < 5; i++)
        {
            Assert.That(Numbers(EmbeddingKernel.Backward(arriving, tokens, 40)), Is.EqualTo(first));
        }
    }

    [Test]
    public void A_tokens_rows_are_added_in_the_order_of_its_places()
    {
        // In another order the small ones would be lost beside the large one, or not be lost.
        var tokens = Tensor.From([0L, 1, 0, 0, 0], 5).To(Place);
        var arriving = Tensor.From([1f, 5f, 16777216f, 1f, -16777216f], 5).View(5, 1).To(Place);
        Assert.That(Numbers(EmbeddingKernel.Backward(arriving, tokens, 3)), Is.EqualTo(new[] { 0.0, 5, 0 }));
    }

    [Test]
    public void Many_places_of_a_token_are_added_in_their_order_too()
    {
        var rows = Enumerable.Repeat(1f, 200).ToArray();
        (rows[0], rows[127]) = (16777216f, -16777216f);
        var arriving = Tensor.From(rows, 200).View(200, 1).To(Place);
        Assert.That(Numbers(EmbeddingKernel.Backward(arriving, Tensor.From(new long[200], 200).To(Place), 1)), Is.EqualTo(new[] { 72.0 }), "the ones behind both");
    }

    [Test]
    public void Hundreds_of_thousands_of_places([Values(Draw.Evenly, Draw.Same)] Draw draw)
    {
        var (arriving, tokens) = (Whole(DType.Float32, 300_000, 8), Tokens(300_000, 100, draw));
        var wide = Leaf(Tensor.Zeros([100, 8], DType.Float64));
        Autograd.Backward(Embedding.Reference(wide, tokens.To(Device.Cpu)), Wide(arriving));
        Assert.That(Numbers(EmbeddingKernel.Backward(arriving, tokens, 100)), Is.EqualTo(Numbers(wide.Gradient!)));
    }

    [TestCase(4)]
    [TestCase(5)]
    [TestCase(-1)]
    public void A_token_that_the_table_lacks_is_refused_on_the_host_and_left_out_on_a_device(long token)
    {
        var (arriving, tokens) = (Tensor.From([1f, 2f, 4f], 3).View(3, 1).To(Place), Tensor.From([0L, token, 3], 3).To(Place));
        if (Place.IsCuda)
        {
            Assert.That(Numbers(EmbeddingKernel.Backward(arriving, tokens, 4)), Is.EqualTo(new double[] { 1, 0, 0, 4 }));
            return;
        }

        Assert.That(
            () => EmbeddingKernel.Backward(arriving, tokens, 4), Throws.TypeOf<TorchException>().With.Message.Contains($"no token {token} in a table of 4"));
    }

    [Test]
    public void Tokens_of_another_number_than_the_rows_are_refused() =>
        Assert.That(
            () => EmbeddingKernel.Backward(Tensor.Zeros([3, 8], device: Place), Tensor.From([0L, 1], 2).To(Place), 4),
            Throws.TypeOf<TorchException>().With.Message.Contains("the tokens").And.Message.Contains("[3]").And.Message.Contains("[2]"));

    private static double[] Numbers(Tensor values) => Wide(values).View(-1).ToArray<double>();

    // Whole numbers, whose sums float32 holds: each place counts, and a result is rounded once.
    private Tensor Whole(DType type, int places, int width) =>
        Tensor.From([.. Enumerable.Range(0, places * width).Select(_ => (float)Random.Next(-8, 9))], places, width).To(type).To(Place);

    private Tensor Tokens(int places, int vocabulary, Draw draw)
    {
        var one = Random.NextInt64(vocabulary);
        long[] tokens = [.. Enumerable.Range(0, places).Select(_ => draw switch
        {
            Draw.Same => one,
            Draw.MostlyOne when Random.Next(3) > 0 => one,
            Draw.Few => Random.NextInt64(Math.Min(3, vocabulary)),
            _ => Random.NextInt64(vocabulary),
        })];
        return Tensor.From(tokens, places).To(Place);
    }
}

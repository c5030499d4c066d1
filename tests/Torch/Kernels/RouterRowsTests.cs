using Moe.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class RouterRowsTests(Device device) : KernelTests(device)
{
    [Test]
    public void Choice_statistics_and_gradients_equal_the_reference(
        [Values(1, 129, 600)] int tokensPerSegment,
        [Values("1 1 1", "6 2 1", "16 2 3", "64 8 2", "100 100 1", "130 3 1", "300 4 1", "1024 8 1")] string sizes,
        [Values] RouterScore score,
        [Values] bool normalize,
        [Values(DType.Float64, DType.Float32)] DType type)
    {
        var (experts, slots, segments) = Array.ConvertAll(sizes.Split(' '), int.Parse) is [var e, var k, var g] ? (e, k, g) : default;
        var options = new MoeOptions { Experts = experts, TopK = slots, ExpertWidth = 1, Score = score, NormalizeWeights = normalize, RoutedScale = 1.5 };
        var logits = Leaf(Logits(type, segments * tokensPerSegment, experts));
        var favourite = Random.Next(experts);
        var bias = Tensor.From([.. Enumerable.Range(0, experts).Select(e => e == favourite ? 10f : 0)], experts).To(Place); // no near-ties
        var wide = Leaf(Wide(logits));
        var expected = RouterChoice.Reference(wide, Wide(bias), segments, options);
        var actual = RouterChoice.Of(logits, bias, segments, options);

        Assert.That(actual.Ids.ToArray<long>(), Is.EqualTo(expected.Ids.ToArray<long>()));
        MustBeClose(actual.Weights, expected.Weights, "weights");
        MustBeClose(actual.ScoreSums, expected.ScoreSums, "sums of scores");
        MustBeClose(actual.SquaredLogSumExp, expected.SquaredLogSumExp, "squares");
        Assert.That(actual.Counts.ToArray<long>(), Is.EqualTo(Router.Count(expected.Ids, segments, experts).ToArray<long>()));

        var (byWeights, bySums, bySquares) = (Normal(type, logits.Size(0), slots), Normal(type, segments, experts), Normal(type));
        Autograd.Backward((actual.Weights * byWeights).Sum() + (actual.ScoreSums * bySums).Sum() + actual.SquaredLogSumExp * bySquares);
        Autograd.Backward(
            (expected.Weights * Wide(byWeights)).Sum() + (expected.ScoreSums * Wide(bySums)).Sum() + expected.SquaredLogSumExp * Wide(bySquares));
        MustBeClose(logits.Gradient!, wide.Gradient!, "gradient of the logits");
    }

    [Test]
    public void Any_of_the_results_may_be_without_a_gradient([Values(0, 1, 2)] int used, [Values] RouterScore score)
    {
        var options = new MoeOptions { Experts = 12, TopK = 3, ExpertWidth = 1, Score = score };
        var logits = Leaf(Logits(DType.Float64, 20, 12));
        var wide = Leaf(Wide(logits));
        var bias = Tensor.Zeros([12], device: Place);
        var actual = RouterChoice.Of(logits, bias, 2, options);
        var expected = RouterChoice.Reference(wide, Wide(bias), 2, options);
        var (left, right) = used switch
        {
            0 => (actual.Weights, expected.Weights),
            1 => (actual.ScoreSums, expected.ScoreSums),
            _ => (actual.SquaredLogSumExp, expected.SquaredLogSumExp),
        };
        var seed = Normal(DType.Float64, left.Shape);
        Autograd.Backward((left * seed).Sum());
        Autograd.Backward((right * Wide(seed)).Sum());
        var scale = Math.Max(1e-3, Wide(wide.Gradient!).Norm().Item());
        Assert.That((Wide(logits.Gradient!) - wide.Gradient!).Norm().Item(), Is.AtMost(1e-12 * scale));
    }

    [Test]
    public void Of_equal_scores_the_lower_ids_win()
    {
        var options = new MoeOptions { Experts = 70, TopK = 5, ExpertWidth = 1 };
        var choice = RouterChoice.Of(Tensor.Zeros([40, 70], device: Place), Tensor.Zeros([70], device: Place), 1, options);
        Assert.That(choice.Ids.ToArray<long>().Chunk(5), Is.All.EqualTo(new long[] { 0, 1, 2, 3, 4 }));
    }

    [Test]
    public void Logits_that_are_no_numbers_still_choose_different_experts()
    {
        var logits = Tensor.Full([3, 8], double.NaN, device: Place);
        var choice = RouterChoice.Of(logits, Tensor.Zeros([8], device: Place), 1, new MoeOptions { Experts = 8, TopK = 4, ExpertWidth = 1 });
        Assert.That(choice.Ids.ToArray<long>().Chunk(4), Is.All.EqualTo(new long[] { 0, 1, 2, 3 }));
        Assert.That(choice.Weights.ToArray<float>(), Is.All.NaN);
    }

    [Test]
    public void Scores_that_are_no_numbers_are_chosen_last([Values(DType.Float64, DType.Float32)] DType type, [Values(5, 40)] int slots)
    {
        const int experts = 40, tokens = 50;
        var values = Wide(Logits(type, tokens, experts)).ToArray<double>();
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = Random.Next(3) == 0 ? double.NaN : values[i];
        }

        var options = new MoeOptions { Experts = experts, TopK = slots, ExpertWidth = 1, Score = RouterScore.Sigmoid };
        var choice = RouterChoice.Of(Tensor.From(values, tokens, experts).To(type).To(Place), Tensor.Zeros([experts], device: Place), 1, options);
        var expected = values.Chunk(experts).SelectMany(row =>
            Enumerable.Range(0, experts).OrderByDescending(e => double.IsNaN(row[e]) ? double.NegativeInfinity : row[e]).Take(slots).Select(e => (long)e));
        Assert.That(choice.Ids.ToArray<long>(), Is.EqualTo(expected));
    }

    [Test]
    public void Large_logits_have_finite_results_and_gradients([Values] RouterScore score)
    {
        var logits = Leaf(Logits(DType.Float32, 30, 16) * 5e3);
        var choice = RouterChoice.Of(logits, Tensor.Zeros([16], device: Place), 1, new MoeOptions { Experts = 16, TopK = 2, ExpertWidth = 1, Score = score });
        Autograd.Backward(choice.Weights.Sum() + choice.ScoreSums.Sum() + choice.SquaredLogSumExp);
        Assert.That(logits.Gradient!.ToArray<float>().Concat(choice.Weights.ToArray<float>()).All(float.IsFinite));
    }

    [Test]
    public void No_tokens_give_zeros_and_two_runs_the_same_bits()
    {
        var options = new MoeOptions { Experts = 6, TopK = 2, ExpertWidth = 1 };
        var bias = Tensor.Zeros([6], device: Place);
        var nothing = RouterChoice.Of(Tensor.Zeros([0, 6], device: Place), bias, 1, options);
        Assert.That(nothing.ScoreSums.ToArray<float>(), Is.All.Zero);
        Assert.That(nothing.Counts.ToArray<long>(), Is.All.Zero);
        Assert.That(nothing.SquaredLogSumExp.Item(), Is.Zero);

        var logits = Logits(DType.Float32, 1000, 6);
        var first = RouterChoice.Of(logits, bias, 2, options).ScoreSums.ToArray<float>();
        Assert.That(RouterChoice.Of(logits, bias, 2, options).ScoreSums.ToArray<float>(), Is.EqualTo(first));
    }

    // Logits of a row are apart from each other, so that float32 orders them as float64 does.
    private Tensor Logits(DType type, int tokens, int experts)
    {
        var values = new double[tokens * experts];
        for (var token = 0; token < tokens; token++)
        {
            int[] order = [.. Enumerable.Range(0, experts)];
            Random.Shuffle(order);
            for (var e = 0; e < experts; e++)
            {
                values[(token * experts) + e] = (order[e] * 4.0 / experts) - 2 + (0.5 * Random.NextDouble() / experts);
            }
        }

        return Tensor.From(values, tokens, experts).To(type).To(Place);
    }
}

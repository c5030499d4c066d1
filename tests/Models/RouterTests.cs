using Moe.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

public class RouterTests : ScopedTests
{
    private static readonly MoeOptions Softmax = new() { Experts = 6, TopK = 2, ExpertWidth = 1 };

    [Test]
    public void Weights_come_from_scores_and_sum_to_the_scale([Values] RouterScore score, [Values] bool normalize, [Values(1, 2, 6)] int topK)
    {
        var options = Softmax with { Score = score, NormalizeWeights = normalize, TopK = topK, RoutedScale = 2.5 };
        var logits = Random.Normal([7, 6], 2);
        var routing = Router.Route(logits, Tensor.Zeros([6]), 1, options);
        var (ids, weights, values) = (routing.ExpertIds.ToArray<long>(), routing.Weights.ToArray<double>(), logits.ToArray<double>());
        for (var token = 0; token < 7; token++)
        {
            var row = values[(token * 6)..(token * 6 + 6)];
            var total = row.Sum(Math.Exp);
            var scores = Array.ConvertAll(row, x => score == RouterScore.Softmax ? Math.Exp(x) / total : 1 / (1 + Math.Exp(-x)));
            var best = Enumerable.Range(0, 6).OrderByDescending(i => row[i]).Take(topK).ToArray();
            var divisor = normalize ? best.Sum(i => scores[i]) : 1;
            Assert.That(ids[(token * topK)..(token * topK + topK)], Is.EqualTo(best));
            Assert.That(weights[(token * topK)..(token * topK + topK)], Is.EqualTo(best.Select(i => 2.5 * scores[i] / divisor)).Within(1e-12));
        }
    }

    [Test]
    public void Equal_logits_go_to_the_lowest_ids([Values(1, 3, 6)] int topK)
    {
        var routing = Router.Route(Tensor.Zeros([50, 6]), Tensor.Zeros([6]), 1, Softmax with { TopK = topK });
        Assert.That(routing.ExpertIds.ToArray<long>().Chunk(topK), Is.All.EqualTo(Enumerable.Range(0, topK).Select(i => (long)i)));
    }

    [Test]
    public void Bias_changes_the_selection_but_not_the_weights()
    {
        var logits = Random.Normal([20, 6]);
        var bias = Tensor.From([0f, 0f, 0f, 0f, 10f, 10f]);
        var routing = Router.Route(logits, bias, 1, Softmax with { NormalizeWeights = false });
        Assert.That(routing.ExpertIds.ToArray<long>(), Is.All.GreaterThanOrEqualTo(4));
        Assert.That(Oracle.Difference(routing.Weights, logits.Softmax(-1).Gather(1, routing.ExpertIds)), Is.LessThan(1e-12));
    }

    [Test]
    public void Counts_are_of_each_segment_and_before_drops([Values] bool dropping)
    {
        var options = Softmax with { CapacityFactor = dropping ? 0.5 : null };
        var routing = Router.Route(Random.Normal([12, 6]), Tensor.Zeros([6]), 3, options);
        var free = Router.Route(Random.Normal([12, 6]), Tensor.Zeros([6]), 3, Softmax);
        Assert.That(routing.Statistics.Counts.Sum(1).ToArray<long>(), Is.All.EqualTo(8));
        Assert.That(free.Statistics.Dropped.Item(), Is.Zero);
        Assert.That(routing.Statistics.TokensPerSegment, Is.EqualTo(4));
        Assert.That(routing.Statistics.Dropped.Item(), dropping ? Is.GreaterThan(0) : Is.Zero);
    }

    [Test]
    public void Scores_that_rounding_parts_are_ties_and_the_later_token_is_dropped()
    {
        // The second token's scores are higher by less than products of other sizes round.
        var logits = Tensor.From([1.0, 0, 0, 0, 1 + 1e-7, 0, 0, 0], 2, 4);
        var routing = Router.Route(logits, Tensor.Zeros([4]), 1, Softmax with { Experts = 4, TopK = 1, CapacityFactor = 2, DropPolicy = DropPolicy.Score });
        Assert.That(routing.ExpertIds.ToArray<long>(), Is.EqualTo(new long[] { 0, 4 }));
    }

    [Test]
    public void Full_experts_drop_by_the_policy([Values] DropPolicy policy, [Values(1, 3)] int segments)
    {
        const double Factor = 0.8;
        var options = Softmax with { CapacityFactor = Factor, DropPolicy = policy, NormalizeWeights = false };
        var logits = Random.Normal([segments * 20, 6]);
        var free = Router.Route(logits, Tensor.Zeros([6]), segments, Softmax with { NormalizeWeights = false });
        var routing = Router.Route(logits, Tensor.Zeros([6]), segments, options);
        var (ids, scores) = (free.ExpertIds.ToArray<long>(), free.Weights.ToArray<double>());
        var capacity = (int)Math.Ceiling(Factor * 20 * 2 / 6);
        var kept = new HashSet<int>();
        foreach (var queue in Enumerable.Range(0, ids.Length).GroupBy(pair => (Segment: pair / 40, Expert: ids[pair])))
        {
            kept.UnionWith((policy == DropPolicy.Score ? queue.OrderByDescending(pair => Math.Floor(scores[pair] / Capacity.ScoreStep)) : queue.Order()).Take(capacity));
        }

        Assert.That(routing.ExpertIds.ToArray<long>(), Is.EqualTo(ids.Select((id, pair) => kept.Contains(pair) ? id : 6)));
        Assert.That(routing.Weights.ToArray<double>(), Is.EqualTo(scores.Select((score, pair) => kept.Contains(pair) ? score : 0)));
        Assert.That(routing.Statistics.Dropped.Item(), Is.EqualTo(ids.Length - kept.Count));
    }

    [Test]
    public void Equal_scores_drop_the_later_token([Values] DropPolicy policy)
    {
        var routing = Router.Route(Tensor.Zeros([6, 6]), Tensor.Zeros([6]), 1, Softmax with { CapacityFactor = 1, DropPolicy = policy });
        Assert.That(routing.ExpertIds.ToArray<long>(), Is.EqualTo(new long[] { 0, 1, 0, 1, 6, 6, 6, 6, 6, 6, 6, 6 }));
    }

    [TestCase(0.5, 10, 2, 16, 1)]
    [TestCase(1.0, 16, 2, 16, 2)]
    [TestCase(1.25, 16, 2, 16, 3)]
    [TestCase(10, 16, 2, 16, 20)]
    [TestCase(1.1, 400, 2, 8, 110)]
    [TestCase(1.4, 100, 1, 7, 20)]
    [TestCase(1.000001, 16, 2, 16, 3)]
    [TestCase(1e-300, 16, 2, 16, 1)]
    [TestCase(100, 16, 2, 16, 32)]
    [TestCase(1e300, 16, 2, 16, 32)]
    [TestCase(double.PositiveInfinity, 16, 2, 16, 32)]
    public void Capacity_is_rounded_up(double factor, long tokens, long topK, long experts, long expected) =>
        Assert.That(Capacity.PerExpert(factor, tokens, topK, experts), Is.EqualTo(expected));

    [Test]
    public void No_tokens_are_routed_nowhere([Values] bool dropping)
    {
        var options = Softmax with { CapacityFactor = dropping ? 1 : null };
        var routing = Router.Route(Tensor.Zeros([0, 6]), Tensor.Zeros([6]), 0, options);
        Assert.That(routing.ExpertIds.Shape, Is.EqualTo(new long[] { 0, 2 }));
        Assert.That(routing.Statistics.Counts.Shape, Is.EqualTo(new long[] { 0, 6 }));
        Assert.That(routing.Statistics.SquaredLogSumExp.Item(), Is.Zero);
    }

    [Test]
    public void Gradients_of_weights_and_losses_reach_the_logits_as_by_differences([Values] RouterScore score)
    {
        var options = Softmax with { Score = score, RoutedScale = 1.5 };
        var logits = Random.Normal([5, 6]).Leaf();
        var factors = Random.Normal([5, 2]);
        var fractions = BalanceLoss.Fractions(Tensor.From([3L, 1, 0, 4, 1, 1], 1, 6));
        Autograd.Backward(Quantity(logits));
        var gradient = logits.Gradient!.ToArray<double>();
        var values = logits.Detach().ToArray<double>();
        for (var i = 0; i < values.Length; i++)
        {
            var slope = (At(i, 1e-5) - At(i, -1e-5)) / 2e-5;
            Assert.That(gradient[i], Is.EqualTo(slope).Within(1e-7));
        }

        double At(int i, double step)
        {
            var moved = (double[])values.Clone();
            moved[i] += step;
            return Quantity(Tensor.From(moved, 5, 6)).Item();
        }

        Tensor Quantity(Tensor x)
        {
            var routing = Router.Route(x, Tensor.Zeros([6]), 1, options);
            RouterStatistics[] layers = [routing.Statistics];
            return (routing.Weights * factors).Sum() + BalanceLoss.Global(layers, fractions) + BalanceLoss.RouterZ(layers);
        }
    }
}

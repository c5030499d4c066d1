using Moe.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

public class BalanceTests : ScopedTests
{
    private static readonly MoeOptions Options = new() { Experts = 4, TopK = 2, ExpertWidth = 1 };

    [Test]
    public void Even_load_and_even_scores_give_one_a_token([Values] RouterScore score)
    {
        // Token t prefers experts t mod 4 and t + 1 mod 4 by a little: the load is even and so are the mean scores.
        var logits = new double[8 * 4];
        for (var token = 0; token < 8; token++)
        {
            logits[token * 4 + token % 4] = 0.2;
            logits[token * 4 + (token + 1) % 4] = 0.1;
        }

        var layers = Route(Tensor.From(logits, 8, 4), 1, Options with { Score = score });
        Assert.That(BalanceLoss.Local(layers).Item(), Is.EqualTo(8).Within(1e-12));
        Assert.That(BalanceLoss.Global(layers, BalanceLoss.Fractions(Counts(layers))).Item(), Is.EqualTo(8).Within(1e-12));
    }

    [Test]
    public void Load_that_follows_the_scores_costs_more_than_one()
    {
        var logits = Tensor.From([3.0, 2, 0, 0]).View(1, 4).Expand(10, 4).Contiguous();
        var scores = new[] { 3.0, 2, 0, 0 }.Select(Math.Exp).ToArray();
        var expected = 10 * 4 * 0.5 * (scores[0] + scores[1]) / scores.Sum();
        Assert.That(BalanceLoss.Local(Route(logits, 1, Options)).Item(), Is.EqualTo(expected).Within(1e-12));
    }

    [Test]
    public void Global_loss_of_parts_has_the_gradient_of_one_big_batch([Values] RouterScore score)
    {
        var options = Options with { Score = score };
        var whole = Random.Normal([24, 4]).Leaf();
        var big = Route(whole, 1, options);
        var fractions = BalanceLoss.Fractions(Counts(big));
        Autograd.Backward(BalanceLoss.Global(big, fractions));

        var parts = whole.Detach().Clone().Leaf();
        var total = Tensor.Zeros([1, 4], DType.Int64);
        var ragged = parts.Split([4, 12, 8]);
        foreach (var part in ragged)
        {
            total.Add_(Counts(Route(part, 1, options)));
        }

        foreach (var part in ragged)
        {
            Autograd.Backward(BalanceLoss.Global(Route(part, 1, options), BalanceLoss.Fractions(total)));
        }

        Assert.That(Oracle.Difference(parts.Gradient!, whole.Gradient!), Is.LessThan(1e-13));
    }

    [Test]
    public void One_segment_is_judged_the_same_locally_and_globally()
    {
        var layers = Route(Random.Normal([9, 4]), 1, Options);
        var global = BalanceLoss.Global(layers, BalanceLoss.Fractions(Counts(layers)));
        Assert.That(BalanceLoss.Local(layers).Item(), Is.EqualTo(global.Item()).Within(1e-12));
    }

    [Test]
    public void Segments_are_judged_alike_one_by_one_and_together()
    {
        var logits = Random.Normal([12, 4]);
        var together = BalanceLoss.Local(Route(logits, 3, Options)).Item();
        var apart = logits.Split([4, 4, 4]).Sum(part => BalanceLoss.Local(Route(part, 1, Options)).Item());
        Assert.That(together, Is.EqualTo(apart).Within(1e-12));
        Assert.That(together, Is.Not.EqualTo(BalanceLoss.Local(Route(logits, 1, Options)).Item()).Within(1e-6));
    }

    [Test]
    public void Z_loss_is_the_squared_logsumexp()
    {
        var logits = Random.Normal([5, 4], 3);
        var expected = logits.ToArray<double>().Chunk(4).Sum(row => Math.Pow(Math.Log(row.Sum(Math.Exp)), 2));
        Assert.That(BalanceLoss.RouterZ(Route(logits, 1, Options)).Item(), Is.EqualTo(expected).Within(1e-10));
    }

    [Test]
    public void Z_loss_is_finite_at_logits_of_ten_thousand()
    {
        var logits = Tensor.From([1e4f, -1e4f, 0f, 1e4f], 1, 4).Leaf();
        var loss = BalanceLoss.RouterZ(Route(logits, 1, Options));
        Autograd.Backward(loss);
        Assert.That(loss.Item(), Is.EqualTo(Math.Pow(1e4 + Math.Log(2), 2)).Within(1e-6).Percent);
        Assert.That(logits.Gradient!.ToArray<float>(), Is.EqualTo(new[] { 1e4f, 0f, 0f, 1e4f }).Within(1f).Percent);
    }

    [Test]
    public void Without_layers_or_tokens_losses_are_zero()
    {
        var empty = Route(Tensor.Zeros([0, 4]), 0, Options);
        Assert.That(BalanceLoss.Local([]).Item() + BalanceLoss.RouterZ([]).Item(), Is.Zero);
        Assert.That(BalanceLoss.Local(empty).Item() + BalanceLoss.RouterZ(empty).Item(), Is.Zero);
        Assert.That(BalanceLoss.Global(empty, BalanceLoss.Fractions(Counts(empty))).Item(), Is.Zero);
    }

    [Test]
    public void Bias_steps_against_the_load_by_the_rate()
    {
        var bias = SelectionBias.Updated(Tensor.From([0.5f, 0f, -1f, 0f]), Tensor.From([10L, 0, 5, 5]), 0.001);
        Assert.That(bias.ToArray<float>(), Is.EqualTo(new[] { 0.499f, 0.001f, -1f, 0f }).Within(1e-7f));
    }

    [Test]
    public void Bias_sees_a_difference_of_one_among_billions()
    {
        const long Many = 40_000_000_000;
        var bias = SelectionBias.Updated(Tensor.Zeros([2, 4]), Tensor.From([Many, Many, Many - 1, Many + 1, Many, Many, Many, Many], 2, 4), 0.25);
        Assert.That(bias.ToArray<float>(), Is.EqualTo(new[] { 0f, 0, 0.25f, -0.25f, 0, 0, 0, 0 }));
    }

    private static RouterStatistics[] Route(Tensor logits, long segments, MoeOptions options) =>
        [Router.Route(logits, Tensor.Zeros([4]), segments, options).Statistics];

    private static Tensor Counts(RouterStatistics[] layers) => Shaping.Stack([.. layers.Select(layer => layer.Counts.Sum(0))]);
}

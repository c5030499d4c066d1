using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>When experts work in blocks, and what is said where even that is too much.</summary>
public class ExpertMemoryTests
{
    private static readonly ExpertShape Shape = new(Width: 64, Hidden: 96, Slots: 2, LocalExperts: 4, DType.Float32);

    [Test]
    public void What_fits_to_the_byte_is_worked_on_whole()
    {
        TokenRoute[] routes = [new Arriving(1000, 1500), new Arriving(300, 500)];
        var least = Enumerable.Range(0, 40).Select(bit => 1L << bit).First(bytes => Plan(routes, bytes)?.Keeps == true);
        var (fits, short_) = (least, least / 2);
        while (fits - short_ > 1)
        {
            var middle = (fits + short_) / 2;
            (fits, short_) = Plan(routes, middle)?.Keeps == true ? (middle, short_) : (fits, middle);
        }

        Assert.That(fits, Is.EqualTo(
            Shape.BytesKept(1300, 2000) + Shape.BytesMoving(1000) + Shape.BytesWorked(1500) + Shape.BytesOfMatrices(2)));
        Assert.That(Plan(routes, null)!.Keeps, Is.True);
    }

    [Test]
    public void Blocks_hold_every_row_once_and_grow_with_the_memory()
    {
        TokenRoute[] routes = [new Arriving(1000, 1500)];
        var counts = new List<int>();
        for (var free = 500_000L; free < 4_000_000; free += 100_000)
        {
            if (Plan(routes, free) is { Keeps: false } plan)
            {
                var blocks = plan.Blocks(1000);
                Assert.That(blocks.SelectMany(block => Enumerable.Range((int)block.Start, (int)block.Length)), Is.EqualTo(Enumerable.Range(0, 1000)));
                Assert.That(blocks.Max(block => block.Length), Is.LessThanOrEqualTo(plan.BlockRows));
                counts.Add(blocks.Length);
            }
        }

        Assert.That(counts, Is.Not.Empty.And.Ordered.Descending);
        Assert.That(counts[0], Is.GreaterThan(counts[^1]));
    }

    [Test]
    public void What_no_backward_follows_is_not_charged_for_one()
    {
        TokenRoute[] routes = [new Arriving(1000, 1500)];
        var passing = Shape.BytesMoving(1000) + Shape.BytesWorked(1500);
        Assert.That(Plan(routes, passing, keeps: false)?.Keeps, Is.True);
        Assert.That(Plan(routes, passing - 1, keeps: false)?.Keeps, Is.Not.True);
        Assert.That(Plan(routes, passing)?.Keeps, Is.Not.True);
    }

    [Test]
    public void The_account_says_what_where_why_and_what_to_try()
    {
        TokenRoute[] routes = [new Arriving(1000, 1500)];
        var refused = Assert.Throws<ExpertMemoryException>(() => ExpertBlockPlan.Of(Shape, routes, 1000, "layers.3.moe", keeps: true))!;
        var account = FailureAccount.Of(refused, rank: 2, step: 5);
        Assert.Multiple(() =>
        {
            Assert.That(account.ExitCode, Is.EqualTo(ExitCodes.Failed));
            Assert.That(account.Secondary, Is.False);
            Assert.That(account.Where, Is.EqualTo("layers.3.moe"));
            Assert.That(account.Why, Does.Contain("1000 tokens with 1500 choices").And.Contain("4 expert(s)").And.Contain("even load is 700 choices").And.Contain("0 MiB are free"));
            Assert.That(account.Try, Does.Contain("capacity_factor").And.Contain("micro_batch"));
        });
    }

    private static ExpertBlockPlan? Plan(TokenRoute[] routes, long? free, bool keeps = true)
    {
        try
        {
            return ExpertBlockPlan.Of(Shape, routes, free, "layers.3.moe", keeps);
        }
        catch (ExpertMemoryException)
        {
            return null;
        }
    }

    /// <summary>Sizes alone.</summary>
    private sealed class Arriving : TokenRoute
    {
        [System.Diagnostics.CodeAnalysis.SetsRequiredMembers]
        public Arriving(long rows, long choices) => (ArrivingRows, ArrivingChoices, LeavingChoices, Tokens, FirstToken) = (rows, choices, 700, 350, 0);

        public override TokenRoute Saved(Func<Tensor, Tensor> save) => this;

        public override RowsUnderWay Send(Tensor tokens, Tensor weights) => throw new NotSupportedException();

        public override RowsUnderWay Return(Tensor sums) => throw new NotSupportedException();

        public override void SumInto(Tensor returned, Tensor? added, Tensor tokens) => throw new NotSupportedException();

        public override RowsUnderWay SendGradients(Tensor gradients) => throw new NotSupportedException();

        public override RowsUnderWay ReturnGradients(Tensor packed, long width) => throw new NotSupportedException();

        public override void SumGradientsInto(Tensor returned, Tensor? added, Tensor tokens) => throw new NotSupportedException();

        public override void WeightGradientsInto(Tensor returned, long width, Tensor weights) => throw new NotSupportedException();
    }
}

using FsCheck;
using Moe.Data;
using NUnit.Framework;
using PropertyAttribute = FsCheck.NUnit.PropertyAttribute;

namespace Moe.Tests.Data;

public sealed class SampleOrderTests
{
    [Property]
    public void A_permutation_has_every_number_once(ulong key, PositiveInt count)
    {
        var permutation = new Permutation(count.Get, key);
        Assert.That(Enumerable.Range(0, count.Get).Select(i => permutation[i]).Order(), Is.EqualTo(Enumerable.Range(0, count.Get)));
    }

    [TestCase(1L << 62)]
    [TestCase((1L << 33) + 1)]
    public void A_permutation_of_very_many_stays_within_them_without_repeats(long count)
    {
        var permutation = new Permutation(count, key: 1);
        var values = Enumerable.Range(0, 10_000).Select(i => permutation[i]).ToList();
        Assert.That(values, Is.All.InRange(0, count - 1));
        Assert.That(values.Distinct().Count(), Is.EqualTo(values.Count));
        Assert.That(values.Average(value => value / (double)count), Is.EqualTo(0.5).Within(5 * 0.2887 / 100)); // 5 standard errors
    }

    [TestCase(2)]
    [TestCase(3)]
    [TestCase(7)]
    [TestCase(16)]
    [TestCase(17)]
    public void Every_number_is_as_likely_at_every_position(int count)
    {
        const int keys = 20_000;
        var seen = new int[count, count]; // [position, value]
        for (var key = 0UL; key < keys; key++)
        {
            var permutation = new Permutation(count, CounterHash.Derive(1, key));
            for (var position = 0; position < count; position++)
            {
                seen[position, permutation[position]]++;
            }
        }

        var mean = (double)keys / count;
        Assert.That(seen.Cast<int>(), Is.All.InRange(mean - 5 * double.Sqrt(mean), mean + 5 * double.Sqrt(mean)));
    }

    [Property]
    public void Windows_stay_within_the_training_tokens_and_reach_the_first_and_the_last(PositiveInt extra, PositiveInt length, ulong key)
    {
        var sequenceLength = length.Get % 12 + 1;
        var tokens = sequenceLength + extra.Get;
        var order = new WindowOrder(tokens, sequenceLength, key);
        var reached = new HashSet<long>();
        for (var ordinal = 0L; ordinal < 200 * order.WindowsPerEpoch; ordinal++)
        {
            var start = order.Start(ordinal);
            Assert.That(start, Is.InRange(0, tokens - sequenceLength - 1));
            reached.Add(start);
            reached.Add(start + sequenceLength);
        }

        Assert.That((reached.Min(), reached.Max()), Is.EqualTo((0, tokens - 1)), "first and last token reached in 200 epochs of at most 24 phases");
    }

    [TestCase(new[] { double.MaxValue, double.MaxValue }, new[] { 2048, 2048 })]
    [TestCase(new[] { double.Epsilon, double.Epsilon, double.Epsilon }, new[] { 1366, 1365, 1365 })]
    [TestCase(new[] { 0.1, 0.2, 0.7 }, new[] { 410, 819, 2867 })] // 409.6, 819.2, 2867.2
    [TestCase(new[] { 1, 1e-9 }, new[] { 4096, 0 })]
    public void Shares_are_apportioned_by_largest_remainders(double[] weights, int[] shares) =>
        Assert.That(new Mixture(weights, key: 1).Shares, Is.EqualTo(shares));

    [Property]
    public void A_mixture_numbers_each_domains_samples_without_gaps(NonEmptyArray<PositiveInt> weights, ulong key)
    {
        var mixture = new Mixture([.. weights.Get.Select(weight => (double)weight.Get)], key);
        Assert.That(mixture.Shares.Sum(), Is.EqualTo(Mixture.Period));
        var next = new long[weights.Get.Length];
        for (var sample = 0L; sample < 3 * Mixture.Period; sample++)
        {
            var (domain, ordinal) = mixture[sample];
            Assert.That(ordinal, Is.EqualTo(next[domain]++));
        }

        var total = weights.Get.Sum(weight => (double)weight.Get);
        var errors = weights.Get.Select((weight, domain) => double.Abs(mixture.Shares[domain] - weight.Get / total * Mixture.Period));
        Assert.That(errors, Is.All.LessThan(1), "a share is its exact quota, rounded up or down");
    }
}

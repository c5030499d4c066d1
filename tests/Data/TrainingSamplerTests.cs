using FsCheck;
using Moe.Data;
using NUnit.Framework;
using static Moe.Tests.Data.Refusal;
using PropertyAttribute = FsCheck.NUnit.PropertyAttribute;

namespace Moe.Tests.Data;

public sealed class TrainingSamplerTests
{
    private const int Period = 4096;

    private TextFolder _texts = null!;
    private TokenFolder _plays = null!, _verses = null!, _code = null!;

    [OneTimeSetUp]
    public void Create()
    {
        _texts = new TextFolder();
        _plays = _texts.Tokens("plays", 5_000);
        _verses = _texts.Tokens("verses", 2_345);
        _code = _texts.Tokens("code", 977);
    }

    [OneTimeTearDown]
    public void Delete()
    {
        _plays.Dispose();
        _verses.Dispose();
        _code.Dispose();
        _texts.Dispose();
    }

    [Property(MaxTest = 30)]
    public void Each_epoch_of_a_domain_visits_each_of_its_windows_once(long seed, PositiveInt length, PositiveInt skipped)
    {
        var sampler = Sampler(seed, sequenceLength: length.Get % 100 + 1);
        var first = skipped.Get % 3; // epoch
        for (var domain = 0; domain < 3; domain++)
        {
            var perEpoch = sampler.WindowsPerEpoch(domain);
            var starts = Samples(sampler, 0, long.MaxValue).Where(id => id.Domain == domain).Select(id => id.Start)
                .Skip((int)(first * perEpoch)).Take((int)perEpoch).Order().ToList();
            var gaps = starts.Zip(starts.Skip(1), (a, b) => b - a);
            Assert.That(gaps, Is.All.EqualTo(sampler.SequenceLength), $"domain {domain}: windows tile the epoch");
        }
    }

    [Property(MaxTest = 30)]
    public void Training_and_evaluation_windows_never_share_a_token(long seed, PositiveInt length, byte tenths)
    {
        var (sequenceLength, fraction) = (length.Get % 90 + 1, (tenths % 8 + 1) / 10.0);
        var evaluation = new EvaluationWindows(_plays, sequenceLength, fraction);
        var training = new TrainingSampler([new Domain("plays", _plays)], sequenceLength, fraction, seed);
        var trained = new HashSet<long>();
        foreach (var id in Samples(training, 0, 3 * training.WindowsPerEpoch(0)))
        {
            trained.UnionWith(Enumerable.Range((int)id.Start, sequenceLength + 1).Select(token => (long)token));
        }

        for (var window = 0L; window < evaluation.Count; window++)
        {
            Assert.That(trained.Overlaps(Enumerable.Range((int)evaluation.Start(window), sequenceLength + 1).Select(token => (long)token)), Is.False);
        }
    }

    [Property(MaxTest = 30)]
    public void Every_split_of_the_global_batch_sees_the_same_samples_in_the_same_order(
        long seed, NonNegativeInt consumed, PositiveInt accumulation, PositiveInt world, PositiveInt micro)
    {
        var plan = new BatchPlan(accumulation.Get % 5 + 1, world.Get % 9 + 1, micro.Get % 4 + 1);
        var sampler = Sampler(seed);
        var expected = Samples(sampler, consumed.Get, plan.GlobalBatch).ToList();
        var dealt = new List<SampleId>();
        for (var microStep = 0; microStep < plan.Accumulation; microStep++)
        {
            for (var rank = 0; rank < plan.WorldSize; rank++)
            {
                var own = Sampler(seed); // each rank builds its own
                dealt.AddRange(Enumerable.Range(0, plan.MicroBatch).Select(i => own.Identify(plan.Sample(consumed.Get, microStep, rank, i))));
            }
        }

        Assert.That(dealt, Is.EqualTo(expected));
    }

    [Test]
    public void A_run_goes_on_at_its_consumed_count_when_the_global_batch_changes()
    {
        long[] steps = [.. Step(new BatchPlan(2, 4, 3), 0), .. Step(new BatchPlan(1, 2, 5), 24), .. Step(new BatchPlan(3, 1, 1), 34)];
        Assert.That(steps.Order(), Is.EqualTo(Enumerable.Range(0, 37)));

        static IEnumerable<long> Step(BatchPlan plan, long consumed) =>
            from microStep in Enumerable.Range(0, plan.Accumulation)
            from rank in Enumerable.Range(0, plan.WorldSize)
            from sequence in Enumerable.Range(0, plan.MicroBatch)
            select plan.Sample(consumed, microStep, rank, sequence);
    }

    [TestCase(2, 0, 0)]
    [TestCase(0, 3, 0)]
    [TestCase(0, 0, 4)]
    [TestCase(-1, 0, 0)]
    public void A_place_outside_the_batch_is_refused(int microStep, int rank, int sequence) =>
        Assert.That(() => new BatchPlan(2, 3, 4).Sample(0, microStep, rank, sequence), Throws.TypeOf<ArgumentOutOfRangeException>());

    [Property(MaxTest = 30)]
    public void Each_domain_has_exactly_its_share_of_every_period(long seed, byte period)
    {
        var sampler = Sampler(seed);
        var counts = Samples(sampler, (long)period * Period, Period).CountBy(id => id.Domain).ToDictionary();
        Assert.That((counts[0], counts[1], counts[2]), Is.EqualTo((2341, 1170, 585))); // 4096 times 4/7, 2/7, 1/7, nearest with that sum
        Assert.That(Enumerable.Range(0, 3).Select(sampler.SamplesPerPeriod), Is.EqualTo(new[] { 2341, 1170, 585 }));
    }

    [Test]
    public void Equal_weights_mix_within_short_stretches()
    {
        var sampler = Sampler(seed: 7, weights: [1, 1, 1]);
        foreach (var batch in Samples(sampler, 0, Period).Chunk(128))
        {
            // 128 draws of 1/3: mean 42.7, standard deviation 5.3
            Assert.That(batch.CountBy(id => id.Domain).Select(count => count.Value), Is.All.InRange(42.7 - 5 * 5.3, 42.7 + 5 * 5.3));
        }
    }

    [Property(MaxTest = 20)]
    public void Random_access_equals_reading_in_turn(long seed, NonNegativeInt sample)
    {
        var sampler = Sampler(seed);
        var index = sample.Get * 31L % 20_000;
        var inTurn = Samples(sampler, 0, index + 1).Last();
        Assert.That(Sampler(seed).Identify(index), Is.EqualTo(inTurn));
        Assert.That(Enumerable.Range(0, 100).Select(i => sampler.Identify(index + 99 - i)).Reverse(), Is.EqualTo(Samples(sampler, index, 100)));
    }

    [Test]
    public void Far_samples_cost_no_more_than_near_ones()
    {
        var sampler = Sampler(seed: 1);
        Assert.That(sampler.Identify(long.MaxValue).Start, Is.InRange(0, _plays.Count));
        var watch = System.Diagnostics.Stopwatch.StartNew();
        for (var i = 0L; i < 10_000; i++)
        {
            sampler.Identify(long.MaxValue - i);
        }

        Assert.That(watch.ElapsedMilliseconds, Is.LessThan(1000)); // some microseconds each; walking there would take years
    }

    [Test]
    public void A_sample_holds_the_tokens_from_its_start_on()
    {
        var sampler = Sampler(seed: 5, sequenceLength: 16);
        var tokens = new long[17];
        for (var i = 0; i < 200; i++)
        {
            sampler.Read(i, tokens);
            var id = sampler.Identify(i);
            var bytes = File.ReadAllBytes(Path.Combine(sampler.Domains[id.Domain].Tokens.Location, "tokens.bin"));
            Assert.That(tokens, Is.EqualTo(bytes.Skip((int)id.Start).Take(17).Select(b => (long)b)));
        }
    }

    [Test]
    public void Seeds_and_epochs_differ_in_order_and_phase()
    {
        var sampler = Sampler(seed: 1);
        var epoch = (int)sampler.WindowsPerEpoch(0);
        var plays = Samples(sampler, 0, long.MaxValue).Where(id => id.Domain == 0).Select(id => id.Start).Take(40 * epoch).Chunk(epoch).ToList();
        Assert.That(plays.Select(starts => starts.Min() % 32).Distinct().Count(), Is.GreaterThan(15), "phases of 40 epochs of 32");
        Assert.That(plays.Select(starts => Array.IndexOf(starts, starts.Min())).Distinct().Count(), Is.GreaterThan(20), "place of the first window");
        Assert.That(Samples(sampler, 0, 100), Is.Not.EqualTo(Samples(Sampler(seed: 2), 0, 100)));
    }

    [Test]
    public void A_domains_order_depends_on_its_name_and_not_on_the_others()
    {
        var mixed = Samples(Sampler(seed: 3), 0, 2000).Where(id => id.Domain == 1).Select(id => id.Start).Take(300);
        var alone = Samples(new TrainingSampler([new Domain("verses", _verses)], 32, 0.1, seed: 3), 0, 300).Select(id => id.Start);
        var renamed = Samples(new TrainingSampler([new Domain("poems", _verses)], 32, 0.1, seed: 3), 0, 300).Select(id => id.Start);
        Assert.That(alone, Is.EqualTo(mixed));
        Assert.That(renamed, Is.Not.EqualTo(mixed));
    }

    // Checkpoints store a position in this order: changing it changes the samples of every run that resumes. The numbers are from
    // a program in Python written after docs/data.md.
    [Test]
    public void The_order_is_the_one_that_runs_were_started_with()
    {
        var ids = new long[] { 0, 1, 2, 4095, 4096, 1_000_000_000_000 }.Select(Sampler(seed: 1234).Identify);
        Assert.That(ids, Is.EqualTo(new SampleId[] { new(0, 2910), new(0, 3806), new(1, 1813), new(1, 239), new(0, 3749), new(0, 1688) }));
    }

    [Test]
    public void Mistakes_in_the_mixture_are_refused_by_the_domains_name()
    {
        var plays = new Domain("plays", _plays);
        Assert.That(() => Build(plays, plays), Refuses("plays", "two domains"));
        Assert.That(() => Build(plays, new Domain("code", _code, 0)), Refuses("code", "weight is 0"));
        Assert.That(() => Build(plays, new Domain("code", _code, double.NaN)), Refuses("code", "NaN"));
        Assert.That(() => Build(plays, new Domain("code", _code, double.PositiveInfinity)), Refuses("code", "Infinity"));
        Assert.That(() => Build(plays, new Domain("code", _code, 0.0001)), Refuses("code", "0.0001", "one sample in 4096"));

        static TrainingSampler Build(params Domain[] domains) => new(domains, 32, 0.1, 1);
    }

    [Test]
    public void A_training_split_shorter_than_a_sample_is_refused_with_both_lengths()
    {
        Domain[] code = [new Domain("code", _code)]; // 977 tokens, 97 held out, 880 left
        var longest = new TrainingSampler(code, sequenceLength: 878, 0.1, seed: 1);
        Assert.That(Samples(longest, 0, 50).Select(id => id.Start).Distinct().Order(), Is.EqualTo(new long[] { 0, 1 }));
        Assert.That(() => new TrainingSampler(code, sequenceLength: 880, 0.1, seed: 1), Refuses("code", "880 of 977", "sequence of 880 needs 881"));
    }

    [Test]
    public void A_span_of_another_length_is_refused() =>
        Assert.That(() => Sampler(seed: 1).Read(0, new long[32]), Throws.ArgumentException.With.Message.Contains("33 long, the span 32"));

    private TrainingSampler Sampler(long seed, int sequenceLength = 32, double[]? weights = null)
    {
        weights ??= [4, 2, 1];
        Domain[] domains = [new("plays", _plays, weights[0]), new("verses", _verses, weights[1]), new("code", _code, weights[2])];
        return new TrainingSampler(domains, sequenceLength, 0.1, seed);
    }

    private static IEnumerable<SampleId> Samples(TrainingSampler sampler, long first, long count)
    {
        for (var i = 0L; i < count; i++)
        {
            yield return sampler.Identify(first + i);
        }
    }
}

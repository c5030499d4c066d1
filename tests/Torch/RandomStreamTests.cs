using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

public sealed class RandomStreamTests
{
    // Bounds of 5 deviations and a Kolmogorov-Smirnov bound of 2.5 (p about 7e-6): fresh seeds fail once in some hundred thousand runs.
    private const int Samples = 1 << 18;

    [Test]
    public void First_elements_never_change()
    {
        // Computed by another program, in Python, from hashlib and the paper's definition: saved models depend on these bits.
        var stream = new RandomStream(42, "layers.3.moe.experts.7.gate");
        Assert.That(
            new[] { stream.Word(0), stream.Word(4), stream.Word(1), stream.Word(1_000_003) },
            Is.EqualTo(new ulong[] { 0x83ED29D6DC176C61, 0x5A9A531FDC858652, 0xA0F7DE6048434111, 0x5002B7B593594719 }));
    }

    [Test]
    public void Any_slice_equals_the_same_part_of_the_whole([Values(0, 1, 5, 8, 1_000_000_007)] long origin)
    {
        var random = FreshRandom.Create();
        var stream = new RandomStream((ulong)random.NextInt64(), "slices");
        var whole = new float[300];
        var wholeDouble = new double[300];
        var wholeUniform = new float[300];
        stream.FillNormal(whole, origin, 0.5, 0.02);
        stream.FillNormal(wholeDouble, origin, 0.5, 0.02);
        stream.FillUniform(wholeUniform, origin);
        for (var trial = 0; trial < 500; trial++)
        {
            var start = random.Next(300);
            var length = random.Next(300 - start + 1);
            var (slice, sliceDouble, sliceUniform) = (new float[length], new double[length], new float[length]);
            stream.FillNormal(slice, origin + start, 0.5, 0.02);
            stream.FillNormal(sliceDouble, origin + start, 0.5, 0.02);
            stream.FillUniform(sliceUniform, origin + start);
            Assert.That(slice, Is.EqualTo(whole.AsSpan(start, length).ToArray()));
            Assert.That(sliceDouble, Is.EqualTo(wholeDouble.AsSpan(start, length).ToArray()));
            Assert.That(sliceUniform, Is.EqualTo(wholeUniform.AsSpan(start, length).ToArray()));
        }
    }

    [Test]
    public void Fills_write_nothing_outside_their_destination()
    {
        var stream = new RandomStream(1, "bounds");
        var buffer = Enumerable.Repeat(7f, 40).ToArray();
        stream.FillUniform(buffer.AsSpan(10, 21), 3);
        stream.FillUniform(buffer.AsSpan(5, 0), 3);
        Assert.That(buffer[..10].Concat(buffer[31..]), Is.All.EqualTo(7f));
        Assert.That(buffer[10..31], Is.All.LessThan(1f));
    }

    [Test]
    public void Doubles_are_made_of_the_word_and_floats_are_the_doubles_rounded()
    {
        var stream = new RandomStream((ulong)FreshRandom.Create().NextInt64(), "precision");
        var (floats, doubles) = (new float[Samples], new double[Samples]);

        stream.FillUniform(floats, 11);
        stream.FillUniform(doubles, 11);
        for (var i = 0; i < Samples; i++)
        {
            Assert.That(doubles[i], Is.EqualTo((stream.Word(11 + i) >> 12) * Math.Pow(2, -52)));
            Assert.That(floats[i], Is.EqualTo((float)(Math.Floor(doubles[i] * (1 << 24)) / (1 << 24))));
        }

        stream.FillNormal(floats, 11, -3, 0.25);
        stream.FillNormal(doubles, 11, -3, 0.25);
        Assert.That(floats, Is.EqualTo(doubles.Select(x => (float)x)));
    }

    [Test]
    public void Normals_are_the_Box_Muller_transform_of_their_pair_of_words()
    {
        var stream = new RandomStream((ulong)FreshRandom.Create().NextInt64(), "pairs");
        var (uniforms, normals) = (new double[8000], new double[8000]);
        stream.FillUniform(uniforms, 0);
        stream.FillNormal(normals, 0, 2, 3);
        for (var i = 0; i < uniforms.Length; i++)
        {
            var (u, v) = (uniforms[i & ~4], uniforms[i | 4]);
            var radius = Math.Sqrt(-2 * Math.Log(1 - u));
            var expected = 2 + (3 * radius * ((i & 4) == 0 ? double.CosPi(2 * v) : double.SinPi(2 * v)));
            Assert.That(normals[i], Is.EqualTo(expected).Within(1e-13));
        }
    }

    [Test]
    public void Uniforms_follow_the_uniform_distribution()
    {
        var values = new double[Samples];
        new RandomStream((ulong)FreshRandom.Create().NextInt64(), "uniform").FillUniform(values, 0);
        Assert.That(values, Is.All.InRange(0.0, 1 - Math.Pow(2, -52)));
        Assert.That(values.Average(), Is.EqualTo(0.5).Within(5 / Math.Sqrt(12.0 * Samples)));
        Assert.That(KolmogorovSmirnov(values, x => x), Is.LessThan(2.5));
    }

    [Test]
    public void Normals_have_the_moments_and_the_distribution_asked_for()
    {
        var values = new double[Samples];
        new RandomStream((ulong)FreshRandom.Create().NextInt64(), "normal").FillNormal(values, 0, 4, 0.5);
        var standard = values.Select(x => (x - 4) / 0.5).ToArray();

        // Deviations of the sample moments of a standard normal: 1, sqrt 2, sqrt 15, sqrt 96 over sqrt n.
        double Moment(int power) => standard.Average(x => Math.Pow(x, power));
        var unit = 5 / Math.Sqrt(Samples);
        Assert.That(Moment(1), Is.Zero.Within(unit));
        Assert.That(Moment(2), Is.EqualTo(1).Within(unit * Math.Sqrt(2)));
        Assert.That(Moment(3), Is.Zero.Within(unit * Math.Sqrt(15)));
        Assert.That(Moment(4), Is.EqualTo(3).Within(unit * Math.Sqrt(96)));
        Assert.That(KolmogorovSmirnov(standard, NormalDistribution), Is.LessThan(2.5));
    }

    [Test]
    public void Streams_of_neighbouring_names_seeds_and_places_are_uncorrelated()
    {
        var seed = (ulong)FreshRandom.Create().NextInt64();
        double[] Normals(ulong s, string name, long first)
        {
            var values = new double[Samples];
            new RandomStream(s, name).FillNormal(values, first);
            return values;
        }

        var one = Normals(seed, "layers.1.moe.experts.1.gate", 0);
        double[][] others =
        [
            Normals(seed, "layers.1.moe.experts.2.gate", 0), Normals(seed, "layers.2.moe.experts.1.gate", 0),
            Normals(seed, "layers.1.moe.experts.1.gatf", 0), Normals(seed, string.Empty, 0),
            Normals(seed + 1, "layers.1.moe.experts.1.gate", 0), Normals(seed ^ (1UL << 63), "layers.1.moe.experts.1.gate", 0),
            .. new long[] { 1, 2, 3, 4, 7, 8, 9, 16, 64, 1024 }.Select(lag => Normals(seed, "layers.1.moe.experts.1.gate", lag)),
        ];

        foreach (var other in others)
        {
            var correlation = one.Zip(other, (x, y) => x * y).Average();
            Assert.That(correlation, Is.Zero.Within(5 / Math.Sqrt(Samples)));
        }
    }

    [Test]
    public void Integers_fall_on_every_value_equally_often([Values(1, 2, 3, 10, 1000)] long bound)
    {
        var stream = new RandomStream((ulong)FreshRandom.Create().NextInt64(), "integers");
        var counts = new long[bound];
        for (var i = 0L; i < Samples; i++)
        {
            counts[stream.Below(i, bound)]++;
        }

        // Chi squared with bound - 1 degrees of freedom: mean bound - 1, deviation sqrt(2 (bound - 1)); the tail is wider than a normal one.
        var expected = (double)Samples / bound;
        var chiSquared = counts.Sum(c => (c - expected) * (c - expected) / expected);
        Assert.That(chiSquared, Is.LessThan(bound - 1 + (8 * Math.Sqrt(2 * (bound - 1))) + 8));
    }

    [Test]
    public void Refused_draws_leave_no_bias_where_a_modulus_would_leave_much()
    {
        // 2^64 / bound = 8/3: without refusal, thirds of the range would come up in the ratio 3 : 3 : 2 or the like; half the draws need a second one.
        const long Bound = 3L << 61;
        var stream = new RandomStream((ulong)FreshRandom.Create().NextInt64(), "large bound");
        var thirds = new int[3];
        var low = 0;
        for (var i = 0L; i < Samples; i++)
        {
            var value = stream.Below(i, Bound);
            thirds[value / (1L << 61)]++;
            low += (int)(value & 1);
        }

        Assert.That(thirds, Is.All.EqualTo(Samples / 3.0).Within(5 * Math.Sqrt(Samples * 2 / 9.0)));
        Assert.That(low, Is.EqualTo(Samples / 2).Within(5 * Math.Sqrt(Samples / 4.0)));
    }

    [Test]
    public void Largest_bound_and_last_index_are_in_range()
    {
        var stream = new RandomStream(ulong.MaxValue, "edge");
        Assert.That(stream.Below(RandomStream.IndexLimit - 1, long.MaxValue), Is.InRange(0L, long.MaxValue - 1));
        var last = new float[1];
        stream.FillUniform(last, RandomStream.IndexLimit - 1);
        Assert.That(last[0], Is.InRange(0f, 1f));
    }

    [Test]
    public void Indices_and_bounds_out_of_range_are_refused()
    {
        var stream = new RandomStream(0, "range");
        Assert.That(() => stream.FillNormal(new float[2], -1), Throws.TypeOf<ArgumentOutOfRangeException>());
        Assert.That(() => stream.FillNormal(new float[2], RandomStream.IndexLimit - 1), Throws.TypeOf<ArgumentOutOfRangeException>());
        Assert.That(() => stream.Word(RandomStream.IndexLimit), Throws.TypeOf<ArgumentOutOfRangeException>());
        Assert.That(() => stream.Below(0, 0), Throws.TypeOf<ArgumentOutOfRangeException>());
        Assert.That(() => stream.Below(-1, 5), Throws.TypeOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void Zero_deviation_gives_the_mean()
    {
        var values = new float[9];
        new RandomStream(3, "flat").FillNormal(values, 0, 1.5, 0);
        Assert.That(values, Is.All.EqualTo(1.5f));
    }

    /// <summary>sqrt(n) times the largest distance between the empirical distribution and the given one.</summary>
    private static double KolmogorovSmirnov(double[] values, Func<double, double> distribution)
    {
        var sorted = values.Order().Select(distribution).ToArray();
        var distance = 0.0;
        for (var i = 0; i < sorted.Length; i++)
        {
            distance = Math.Max(distance, Math.Max(sorted[i] - ((double)i / sorted.Length), ((i + 1.0) / sorted.Length) - sorted[i]));
        }

        return distance * Math.Sqrt(sorted.Length);
    }

    /// <summary>Abramowitz and Stegun 26.2.17; its error is below 7.5e-8, far under the statistic's resolution.</summary>
    private static double NormalDistribution(double x)
    {
        var t = 1 / (1 + (0.2316419 * Math.Abs(x)));
        var polynomial = t * (0.319381530 + (t * (-0.356563782 + (t * (1.781477937 + (t * (-1.821255978 + (t * 1.330274429))))))));
        var upper = Math.Exp(-x * x / 2) / Math.Sqrt(2 * Math.PI) * polynomial;
        return x >= 0 ? 1 - upper : upper;
    }
}

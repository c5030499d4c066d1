using System.Runtime.Intrinsics;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

public sealed class PhiloxTests
{
    // Random123's tests/kat_vectors, lines "philox4x32 10": counter, key, result, each word lowest first.
    [TestCase("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8")]
    [TestCase("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd")]
    [TestCase("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1")]
    public void Known_answers_of_the_authors(string counter, string key, string expected)
    {
        var start = Number(counter);
        var block = Philox.Block((ulong)start, (ulong)(start >> 64), (ulong)Number(key));
        Assert.That(block, Is.EqualTo(Number(expected)));

        var (low, high) = Philox.Blocks((ulong)start, (ulong)(start >> 64), (ulong)Number(key));
        Assert.That(new UInt128(high[0], low[0]), Is.EqualTo(Number(expected)));
    }

    [Test]
    public void Vector_lanes_are_consecutive_counters()
    {
        var random = FreshRandom.Create();
        for (var trial = 0; trial < 1000; trial++)
        {
            var (counter, counterHigh, key) = ((ulong)random.NextInt64(), (ulong)random.NextInt64(), (ulong)random.NextInt64());
            var (low, high) = Philox.Blocks(counter, counterHigh, key);
            for (var lane = 0; lane < Philox.Lanes; lane++)
            {
                var expected = Philox.Block(counter + (ulong)lane, counterHigh, key);
                Assert.That(new UInt128(high[lane], low[lane]), Is.EqualTo(expected));
            }
        }
    }

    [Test]
    public void Every_counter_bit_and_every_key_bit_changes_about_half_of_the_result()
    {
        var reference = Philox.Block(0x0123456789ABCDEF, 0xFEDCBA9876543210, 0x0F1E2D3C4B5A6978);
        for (var bit = 0; bit < 192; bit++)
        {
            var flip = 1UL << (bit % 64);
            var changed = Philox.Block(
                0x0123456789ABCDEF ^ (bit / 64 == 0 ? flip : 0),
                0xFEDCBA9876543210 ^ (bit / 64 == 1 ? flip : 0),
                0x0F1E2D3C4B5A6978 ^ (bit / 64 == 2 ? flip : 0));

            // Binomial(128, 1/2): mean 64, deviation 5.7; fixed inputs, so the outcome never varies.
            Assert.That((int)UInt128.PopCount(reference ^ changed), Is.InRange(64 - 23, 64 + 23), $"bit {bit}");
        }
    }

    [Test]
    public void Logarithm_is_that_of_the_mathematical_library()
    {
        var random = FreshRandom.Create();
        for (var trial = 0; trial < 100_000; trial++)
        {
            // Half of the inputs close to 1, where the logarithm loses digits if it is computed carelessly.
            var u = random.NextDouble();
            var x = trial % 2 == 0 ? 1 - u : 1 - (u * Math.Pow(2, -random.Next(52)));
            x = Math.Max(x, Math.Pow(2, -52));
            var expected = Math.Log(x);
            Assert.That(BoxMuller.Log(Vector256.Create(x))[0], Is.EqualTo(expected).Within(4 * Math.BitIncrement(Math.Abs(expected)) * Math.Pow(2, -52)));
        }
    }

    [Test]
    public void Sine_and_cosine_are_those_of_the_mathematical_library()
    {
        var random = FreshRandom.Create();
        for (var trial = 0; trial < 100_000; trial++)
        {
            var v = Math.ScaleB(random.NextInt64(1L << 52), -52);
            var (sine, cosine) = BoxMuller.SinCosOfTurns(Vector256.Create(v));
            var (expectedSine, expectedCosine) = (double.SinPi(2 * v), double.CosPi(2 * v));
            Assert.That(sine[0], Is.EqualTo(expectedSine).Within(4e-16), $"sine of {v:R} turns");
            Assert.That(cosine[0], Is.EqualTo(expectedCosine).Within(4e-16), $"cosine of {v:R} turns");
        }
    }

    [TestCase(0.0, 0, 1)]
    [TestCase(0.25, 1, 0)]
    [TestCase(0.5, 0, -1)]
    [TestCase(0.75, -1, 0)]
    public void Quarter_turns_are_exact(double turns, double sine, double cosine)
    {
        var (actualSine, actualCosine) = BoxMuller.SinCosOfTurns(Vector256.Create(turns));
        Assert.That((actualSine[3], actualCosine[3]), Is.EqualTo((sine, cosine)));
    }

    [Test]
    public void Largest_normal_is_finite_and_comes_from_the_largest_uniform()
    {
        var (first, second) = BoxMuller.Normals(Vector256.Create(1 - Math.Pow(2, -52)), Vector256<double>.Zero);
        Assert.That(first[0], Is.EqualTo(Math.Sqrt(104 * Math.Log(2))).Within(1e-14));
        Assert.That(second[0], Is.Zero);
    }

    private static UInt128 Number(string words) =>
        words.Split(' ').Reverse().Aggregate(UInt128.Zero, (sum, word) => (sum << 32) | Convert.ToUInt32(word, 16));
}

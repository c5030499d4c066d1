using Moe.Tests.Torch;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

/// <summary>The fused rules against one scalar at a time in double precision.</summary>
[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public class FusedRuleTests(Device device)
{
    private const int Guard = 3;
    private static readonly int[] Sizes = [0, 1, 7, 16385, 16, 40_000, 8];

    private static readonly Dictionary<UpdateRule, Oracle> Oracles = new()
    {
        [UpdateRule.Adam] = new(4, 10, (x, c) => Adam(x, c, amsgrad: false)),
        [UpdateRule.AdamAmsgrad] = new(5, 10, (x, c) => Adam(x, c, amsgrad: true)),
        [UpdateRule.ScaledSum] = new(2, 2, (x, c) => x[0] = (c[0] * x[0]) + (c[1] * x[1])),
        [UpdateRule.Momentum] = new(3, 7, Momentum),
        [UpdateRule.AdaBelief] = new(4, 10, (x, c) => AdaBelief(x, c, amsgrad: false)),
        [UpdateRule.AdaBeliefAmsgrad] = new(5, 10, (x, c) => AdaBelief(x, c, amsgrad: true)),
        [UpdateRule.LambDirection] = new(4, 10, LambDirection),
        [UpdateRule.MuonMomentum] = new(3, 4, MuonMomentum),
    };

    [Test]
    public void A_rule_is_its_formula_at_every_element_and_writes_nowhere_else(
        [Values] UpdateRule rule, [Values(DType.Float32, DType.Float64, DType.BFloat16)] DType type, [Values] bool isAligned)
    {
        using var scope = new TensorScope();
        var random = FreshRandom.Create();
        var oracle = Oracles[rule];
        var buffers = Enumerable.Range(0, oracle.Slots).Select(_ => Poisoned(random, type, isAligned)).ToArray();
        var before = Array.ConvertAll(buffers, ToArray);
        var coefficients = Coefficients(random, oracle.Coefficients, type);

        MultiTensor.Update(rule, coefficients, Array.ConvertAll(buffers, buffer => Pieces(buffer, isAligned)));

        var expected = Expected(oracle, before, coefficients, isAligned);
        for (var slot = 0; slot < oracle.Slots; slot++)
        {
            MustBeClose(ToArray(buffers[slot]), expected[slot], type, $"slot {slot}");
        }
    }

    [Test]
    public void Values_in_float32_are_copied_in_bfloat16_beside_states_of_either([Values] bool isAligned, [Values(DType.Float32, DType.BFloat16)] DType states)
    {
        using var scope = new TensorScope();
        var random = FreshRandom.Create();
        var oracle = Oracles[UpdateRule.Adam];
        DType[] types = [DType.Float32, DType.BFloat16, states, states];
        var buffers = Array.ConvertAll(types, type => Poisoned(random, type, isAligned));
        var copies = Poisoned(random, DType.BFloat16, isAligned);
        var before = Array.ConvertAll(buffers, ToArray);
        var coefficients = Coefficients(random, oracle.Coefficients, DType.Float32);

        MultiTensor.UpdateWithCopies(UpdateRule.Adam, coefficients, Pieces(copies, isAligned), Array.ConvertAll(buffers, buffer => Pieces(buffer, isAligned)));

        var expected = Expected(oracle, before, coefficients, isAligned);
        for (var slot = 0; slot < oracle.Slots; slot++)
        {
            MustBeClose(ToArray(buffers[slot]), expected[slot], types[slot], $"slot {slot}");
        }

        Assert.That(ToArray(copies), Is.EqualTo(ToArray(buffers[0].To(DType.BFloat16))));
    }

    [Test]
    public void A_norm_is_the_root_of_the_sum_of_squares(
        [Values(DType.Float32, DType.Float64, DType.BFloat16)] DType type, [Values] bool isAligned)
    {
        using var scope = new TensorScope();
        var buffer = Poisoned(FreshRandom.Create(), type, isAligned);
        var expected = Pieces(buffer, isAligned).Select(piece => Math.Sqrt(ToArray(piece).Sum(value => value * value)));
        Assert.That(MultiTensor.Norms(Pieces(buffer, isAligned)), Is.EqualTo(expected).Within(1e-11).Percent);
    }

    [Test]
    public void A_norm_holds_for_numbers_of_any_size([Values(DType.Float32, DType.BFloat16)] DType type, [Values(0, 1e-35, 1e-20, 1e-13, 1e17, 1e30)] double size)
    {
        using var scope = new TensorScope();
        var random = FreshRandom.Create();
        double[] numbers = [.. Enumerable.Range(0, 50_000).Select(_ => size * (random.NextDouble() - 0.5))];
        numbers[random.Next(numbers.Length)] = 0;
        var tensor = Tensor.From(numbers).To(type).To(device);
        var expected = Math.Sqrt(ToArray(tensor).Sum(value => value * value));
        Assert.That(MultiTensor.Norms([tensor])[0], Is.EqualTo(expected).Within(1e-11).Percent);
    }

    [Test]
    public void A_norm_of_what_is_not_finite_is_not([Values(DType.Float32, DType.BFloat16)] DType type, [Values(double.NaN, double.PositiveInfinity)] double bad)
    {
        using var scope = new TensorScope();
        var random = FreshRandom.Create();
        double[] numbers = [.. Enumerable.Range(0, 50_000).Select(_ => random.NextDouble())];
        numbers[random.Next(numbers.Length)] = bad;
        Assert.That(double.IsFinite(MultiTensor.Norms([Tensor.From(numbers).To(type).To(device)])[0]), Is.False);
    }

    // Over all elements the norm of the difference over the norm; and each by itself, of which a single wrong one would be lost in the norm. Terms of order one may
    // cancel in an element. What is stored in bfloat16 was rounded once.
    private static void MustBeClose(double[] actual, double[] expected, DType type, string what)
    {
        var (bound, relative, least) = type switch { DType.Float64 => (1e-13, 0, 1e-13), DType.Float32 => (1e-5, 0, 2e-5), _ => (1e-2, 1.0 / 256, 2e-5) };
        var (error, norm) = (0.0, 0.0);
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.That(actual[i], double.IsNaN(expected[i]) ? Is.NaN : Is.EqualTo(expected[i]).Within((relative * Math.Abs(expected[i])) + least), $"{what}, {i}");
            if (!double.IsNaN(expected[i]))
            {
                error += Math.Pow(actual[i] - expected[i], 2);
                norm += Math.Pow(expected[i], 2);
            }
        }

        Assert.That(Math.Sqrt(error), Is.AtMost(bound * Math.Sqrt(norm)), what);
    }

    // Random values in the pieces, all positive so that they have a root; NaN around them.
    private Tensor Poisoned(Random random, DType type, bool isAligned)
    {
        var values = Enumerable.Repeat(double.NaN, Start(Sizes.Length, isAligned)).ToArray();
        for (var piece = 0; piece < Sizes.Length; piece++)
        {
            for (var i = 0; i < Sizes[piece]; i++)
            {
                values[Start(piece, isAligned) + i] = random.NextDouble() + 0.1;
            }
        }

        return Tensor.From(values).To(type).To(device).Clone();
    }

    private static double[,] Coefficients(Random random, int count, DType type)
    {
        var table = new double[Sizes.Length, count];
        for (var i = 0; i < Sizes.Length; i++)
        {
            for (var j = 0; j < count; j++)
            {
                var number = random.NextDouble() + 0.1;
                table[i, j] = type == DType.Float64 ? number : (float)number;
            }
        }

        return table;
    }

    private static Tensor[] Pieces(Tensor buffer, bool isAligned) => [.. Sizes.Select((size, i) => buffer.Narrow(0, Start(i, isAligned), size))];

    // With all pieces at multiples of 16 bytes in any type, or each at an odd place.
    private static int Start(int piece, bool isAligned)
    {
        var start = Sizes.Take(piece).Aggregate(8, (before, size) => (before + size + Guard + 7) / 8 * 8);
        return isAligned ? start : start + Guard;
    }

    private static double[][] Expected(Oracle oracle, double[][] before, double[,] coefficients, bool isAligned)
    {
        var after = Array.ConvertAll(before, slot => (double[])slot.Clone());
        for (var piece = 0; piece < Sizes.Length; piece++)
        {
            double[] row = [.. Enumerable.Range(0, oracle.Coefficients).Select(j => coefficients[piece, j])];
            for (var place = Start(piece, isAligned); place < Start(piece, isAligned) + Sizes[piece]; place++)
            {
                var x = Array.ConvertAll(before, slot => slot[place]);
                oracle.Apply(x, row);
                for (var slot = 0; slot < x.Length; slot++)
                {
                    after[slot][place] = x[slot];
                }
            }
        }

        return after;
    }

    private static double[] ToArray(Tensor tensor) => tensor.To(Device.Cpu).To(DType.Float64).ToArray<double>();

    private static void Adam(double[] x, double[] c, bool amsgrad)
    {
        var gradient = (c[0] * x[1]) + (c[1] * x[0]);
        x[2] = (c[3] * x[2]) + (c[4] * gradient);
        x[3] = (c[5] * x[3]) + (c[6] * Math.Pow(gradient, 2));
        var square = amsgrad ? x[4] = Math.Max(x[4], x[3]) : x[3];
        x[0] = (c[2] * x[0]) + (c[9] * x[2] / ((c[7] * Math.Sqrt(square)) + c[8]));
    }

    private static void Momentum(double[] x, double[] c)
    {
        var gradient = (c[0] * x[1]) + (c[1] * x[0]);
        x[2] = (c[3] * x[2]) + (c[4] * gradient);
        x[0] = (c[2] * x[0]) + (c[5] * gradient) + (c[6] * x[2]);
    }

    private static void AdaBelief(double[] x, double[] c, bool amsgrad)
    {
        var gradient = x[1] + (c[0] * x[0]);
        x[2] = (c[2] * x[2]) + (c[3] * gradient);
        x[3] = (c[4] * x[3]) + (c[5] * Math.Pow(gradient - x[2], 2)) + c[6];
        var variance = amsgrad ? x[4] = Math.Max(x[4], x[3]) : x[3];
        x[0] = (c[1] * x[0]) + (c[9] * x[2] / ((c[7] * Math.Sqrt(variance)) + c[8]));
    }

    private static void LambDirection(double[] x, double[] c)
    {
        var gradient = (c[0] * x[1]) + (c[1] * x[0]);
        x[2] = (c[2] * x[2]) + (c[3] * gradient);
        x[3] = (c[4] * x[3]) + (c[5] * Math.Pow(gradient, 2));
        x[1] = (c[6] * x[2] / ((c[7] * Math.Sqrt(x[3])) + c[8])) + (c[9] * x[0]);
    }

    private static void MuonMomentum(double[] x, double[] c)
    {
        x[0] = (c[0] * x[0]) + (c[1] * x[1]);
        x[2] = (c[2] * x[0]) + (c[3] * x[1]);
    }

    private sealed record Oracle(int Slots, int Coefficients, Action<double[], double[]> Apply);
}

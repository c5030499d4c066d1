using Moe.Optimizers;
using Moe.Tests.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

public class MkorFactorsTests : ScopedTests
{
    [Test]
    public void Factors_stay_symmetric_and_positive_definite_in_single_precision([Values(MkorRule.Code, MkorRule.Exact)] MkorRule rule, [Values(0.1, 1, 10)] double scale)
    {
        const int Size = 12;
        using var factors = new MkorFactors(3, Size, DType.Float32, new MkorOptions(rule));
        var mean = Random.Normal([3, Size], scale);
        for (var update = 0; update < 1000; update++)
        {
            factors.Update(mean + Random.Normal([3, Size], scale), [1, 0.5, 1]);
        }

        foreach (var factor in factors.Each)
        {
            var values = factor.ToArray<float>();
            Assert.That(factor.Transpose().Contiguous().ToArray<float>(), Is.EqualTo(values), "symmetric to the bit");
            Assert.That(IsPositiveDefinite(values, Size), Is.True);
            Assert.That(values.Max(Math.Abs), Is.LessThanOrEqualTo(rule == MkorRule.Code ? 1 + 1e-5f : 2 / 0.95f));
        }
    }

    [Test]
    public void Vectors_of_zeros_leave_a_factor_finite([Values] MkorRule rule)
    {
        using var factors = new MkorFactors(1, 4, DType.Float32, new MkorOptions(rule));
        for (var update = 0; update < 1000; update++)
        {
            factors.Update(Tensor.Zeros([1, 4], DType.Float64), [1]);
        }

        Assert.That(factors.Values.IsFinite().All().Item(), Is.EqualTo(1));
    }

    [TestCase(double.NaN)]
    [TestCase(double.PositiveInfinity)]
    [TestCase(1e30)]
    public void Factor_that_is_no_longer_finite_starts_again_and_leaves_the_others_alone(double bad)
    {
        using var factors = new MkorFactors(2, 3, DType.Float32, new MkorOptions());
        using var alone = new MkorFactors(1, 3, DType.Float32, new MkorOptions());
        var good = Random.Normal([1, 3]);
        factors.Update(Shaping.Concatenate([good, Tensor.Full([1, 3], bad, DType.Float64)]), [1, 1]);
        alone.Update(good, [1]);
        Assert.That(factors.Each[0].ToArray<float>(), Is.EqualTo(alone.Each[0].ToArray<float>()));
        Assert.That(factors.Each[1].ToArray<float>(), Is.EqualTo(new float[] { 1, 0, 0, 0, 1, 0, 0, 0, 1 }));
    }

    [Test]
    public void Factor_left_alone_keeps_its_bits([Values] MkorRule rule)
    {
        using var factors = new MkorFactors(2, 5, DType.Float64, new MkorOptions(rule));
        factors.Update(Random.Normal([2, 5]), [1, 1]);
        var before = factors.Each[0].ToArray<double>();
        factors.Update(Random.Normal([2, 5]) * Tensor.From(new double[] { 0, 1 }, 2, 1), [0, 1]);
        Assert.That(factors.Each[0].ToArray<double>(), Is.EqualTo(before));
    }

    [Test]
    public void Permuted_factors_are_updated_alike([Values] MkorRule rule)
    {
        using var factors = new MkorFactors(3, 4, DType.Float64, new MkorOptions(rule));
        using var permuted = new MkorFactors(3, 4, DType.Float64, new MkorOptions(rule));
        var order = Tensor.From(new long[] { 2, 0, 1 }, 3);
        for (var update = 0; update < 5; update++)
        {
            var vectors = Random.Normal([3, 4]);
            factors.Update(vectors, [1, 0.5, 0.25]);
            permuted.Update(vectors.IndexSelect(0, order), [0.25, 1, 0.5]);
        }

        Assert.That(Oracle.Difference(permuted.Values, factors.Values.IndexSelect(0, order)), Is.LessThan(1e-14));
    }

    [Test]
    public void Layer_beyond_the_threshold_starts_again_at_the_identity()
    {
        var options = new MkorOptions(InverseFrequency: 1);
        using var layers = new MkorLayers(options, MkorLayers.Dense("layer", 2, 3));
        void Step() => layers.Step(parameter => parameter.RowSums!.Add(Random.Normal([4, 3]), Random.Normal([4, 2]), [4]));
        Step();
        Step();
        Assert.That(layers.Mkor.ResetFlags("layer"), Is.EqualTo((false, false)));
        layers.State("mkor_output", "layer").Multiply_(10);
        Assert.That(layers.Mkor.ResetFlags("layer"), Is.EqualTo((true, true)));
        Step();
        Assert.That(layers.State("mkor_output", "layer").ToArray<double>(), Is.EqualTo(new double[] { 1, 0, 0, 1 }));
        Assert.That(layers.State("mkor_input", "layer").ToArray<double>(), Is.EqualTo(new double[] { 1, 0, 0, 0, 1, 0, 0, 0, 1 }));
    }

    // Cholesky's roots are real.
    private static bool IsPositiveDefinite(float[] values, int n)
    {
        var root = new double[n, n];
        for (var i = 0; i < n; i++)
        {
            for (var j = 0; j <= i; j++)
            {
                var sum = (double)values[(i * n) + j];
                for (var k = 0; k < j; k++)
                {
                    sum -= root[i, k] * root[j, k];
                }

                if (i == j && !(sum > 0))
                {
                    return false;
                }

                root[i, j] = i == j ? Math.Sqrt(sum) : sum / root[j, j];
            }
        }

        return true;
    }
}

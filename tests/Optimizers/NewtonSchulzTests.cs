using Moe.Optimizers;
using Moe.Tests.Models;
using Moe.Tests.Torch;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Optimizers;

public class NewtonSchulzTests : ScopedTests
{
    private static readonly Dictionary<string, (NewtonSchulz Method, double Lowest, double Highest)> Tables = new()
    {
        ["keller"] = (NewtonSchulz.Keller, 0.65, 1.21),
        ["quintic"] = (NewtonSchulz.Quintic, 0.95, 1.05),
        ["polar_express"] = (NewtonSchulz.PolarExpress, 0.84, 1.16),
    };

    public static IEnumerable<string> TableNames => Tables.Keys;

    [Test]
    public void Singular_vectors_stay_and_each_value_goes_through_the_scalar_polynomials(
        [ValueSource(nameof(TableNames))] string table, [Values] NormGuard guard, [Values(1, 3, 5, 8)] int steps)
    {
        var random = FreshRandom.Create();
        var method = Tables[table].Method with { Guard = guard, Steps = steps };
        foreach (var (rows, columns) in RaggedShapes(random))
        {
            var x = random.Normal([rows, columns]);
            var (left, values, right) = x.SingularValues();
            var norm = Math.Sqrt(values.ToArray<double>().Sum(value => value * value));
            double[] moved = [.. values.ToArray<double>().Select(value => Iterate(method, value / Divisor(guard, norm, method.Epsilon)))];
            var expected = (left * Tensor.From(moved, 1, moved.Length)).MatMul(right);
            Assert.That(Oracle.Difference(method.Orthogonalize(x), expected), Is.LessThan(1e-9), $"{rows} x {columns}");
        }
    }

    [Test]
    public void Memory_beside_the_batch_is_what_is_told(
        [Values(DType.Float64, DType.Float32)] DType type, [Values(null, DType.Float32, DType.BFloat16)] DType? precision, [Values(7, 160)] int rows, [Values(8, 160, 31)] int columns)
    {
        const int Matrices = 12;
        var method = NewtonSchulz.Keller with { Precision = precision };
        var batch = FreshRandom.Create().Normal([Matrices, rows, columns]).To(type);
        var matrices = batch.Unbind();
        method.Replace(batch, matrices); // tables and buffers that stay are there from here on
        using var count = new HostMemoryCount();
        method.Replace(batch, matrices);
        var (left, peak) = HostMemoryCount.Read();
        var told = method.WorkspaceBytes(Matrices, rows, columns, type, Device.Cpu);

        // Beside it are norms and divisors, a number a matrix. Where the host multiplies bfloat16, less is taken than is told, but for what oneDNN packs factors
        // into, whatever the number of matrices: two panels of 64 columns.
        var isNarrow = LinearAlgebra.ProductType(precision ?? (type == DType.Float64 ? type : DType.BFloat16), Device.Cpu) == DType.BFloat16;
        Assert.That(peak, Is.AtMost(told + 4096 + (isNarrow ? 2 * 64 * 2 * Math.Max(rows, columns) : 0)));
        if (!isNarrow)
        {
            Assert.That(peak, Is.AtLeast(told));
        }

        Assert.That(left, Is.Zero);
    }

    [Test]
    public void Singular_values_of_well_conditioned_matrices_come_near_1(
        [ValueSource(nameof(TableNames))] string table, [Values(DType.Float64, DType.Float32, DType.BFloat16)] DType precision)
    {
        var random = FreshRandom.Create();
        var (method, lowest, highest) = Tables[table];
        // Each of five iterations rounds its products by 2^-9, and the next ones carry that on with slopes up to 4: 0.064 has been seen.
        var noise = precision == DType.BFloat16 ? 0.1 : 0;
        foreach (var (rows, columns) in new[] { (32L, 64L), (64L, 32L), (7L, 40L), (40L, 7L), (24L, 29L) })
        {
            var (left, _, right) = random.Normal([rows, columns]).SingularValues();
            var values = Tensor.From([.. Enumerable.Range(0, (int)Math.Min(rows, columns)).Select(_ => 0.5 + random.NextDouble())]);
            var x = (left * values.View(1, -1)).MatMul(right);
            var moved = (method with { Precision = precision }).Orthogonalize(x).SingularValues().Values.ToArray<double>();
            Assert.That(moved, Is.All.InRange(lowest - noise, highest + noise), $"{rows} x {columns}");
        }
    }

    [Test]
    public void Bfloat16_points_the_way_that_float64_does([ValueSource(nameof(TableNames))] string table)
    {
        var random = FreshRandom.Create();
        var method = Tables[table].Method;
        var x = random.Normal([5, 24, 60]);
        var exact = method.Orthogonalize(x);
        var rough = (method with { Precision = DType.BFloat16 }).Orthogonalize(x);
        Assert.That((exact * rough).Sum().Item() / (exact.Norm().Item() * rough.Norm().Item()), Is.GreaterThan(0.98));
    }

    [Test]
    public void A_batch_gives_each_matrix_the_bits_that_it_has_alone([Values(DType.Float64, DType.Float32, DType.BFloat16)] DType precision)
    {
        var random = FreshRandom.Create();

        // Of tiny bfloat16 products libtorch takes another kernel for one than for several.
        var shapes = precision == DType.BFloat16 ? [(24, 40), (41, 25), (32, 32)] : RaggedShapes(random);
        foreach (var (rows, columns) in shapes)
        {
            var x = random.Normal([6, rows, columns], dtype: precision == DType.Float64 ? DType.Float64 : DType.Float32);
            var method = NewtonSchulz.Keller with { Precision = precision };
            var together = method.Orthogonalize(x.View(2, 3, rows, columns)).View(6, rows, columns);
            for (var i = 0; i < 6; i++)
            {
                Assert.That(Bits(together.Select(0, i)), Is.EqualTo(Bits(method.Orthogonalize(x.Select(0, i)))), $"{rows} x {columns}, matrix {i}");
            }
        }
    }

    [Test]
    public void A_tall_matrix_gives_the_transpose_of_the_wide_one()
    {
        var x = FreshRandom.Create().Normal([3, 9, 21]);
        Assert.That(
            Oracle.Difference(NewtonSchulz.Quintic.Orthogonalize(x.Transpose()), NewtonSchulz.Quintic.Orthogonalize(x).Transpose()), Is.LessThan(1e-13));
    }

    [Test]
    public void A_matrix_of_zeros_stays_one_beside_others([ValueSource(nameof(TableNames))] string table, [Values] NormGuard guard)
    {
        var x = FreshRandom.Create().Normal([3, 4, 6], dtype: DType.Float32);
        x.Select(0, 1).Zero_();
        var y = (Tables[table].Method with { Guard = guard }).Orthogonalize(x);
        Assert.That(y.Select(0, 1).ToArray<float>(), Is.All.Zero);
        Assert.That(y.IsFinite().All().Item(), Is.EqualTo(1));
        Assert.That(y.Select(0, 2).Norm().Item(), Is.GreaterThan(1));
    }

    [Test]
    public void Operations_are_those_of_the_three_products_of_each_iteration()
    {
        static long Product(long rows, long inner, long columns) => 2 * rows * inner * columns;
        const long Short = 30, Long = 70;
        var one = Product(Short, Long, Short) + Product(Short, Short, Short) + Product(Short, Short, Long);
        Assert.That((NewtonSchulz.Keller with { Steps = 7 }).Operations(Short, Long), Is.EqualTo(7 * one));
        Assert.That((NewtonSchulz.Keller with { Steps = 7 }).Operations(Long, Short), Is.EqualTo(7 * one));
    }

    [Test]
    public void Settings_without_a_meaning_are_refused()
    {
        Assert.That(() => NewtonSchulz.Keller with { Steps = 0 }, Throws.TypeOf<ArgumentOutOfRangeException>());
        Assert.That(() => NewtonSchulz.Keller with { Epsilon = 0 }, Throws.TypeOf<ArgumentOutOfRangeException>());
        Assert.That(() => NewtonSchulz.Keller with { Table = [] }, Throws.ArgumentException);
        Assert.That(() => NewtonSchulz.Keller with { Table = [new(1, double.NaN, 0)] }, Throws.ArgumentException);
    }

    private static IEnumerable<(long Rows, long Columns)> RaggedShapes(Random random) =>
        [(1, 6), (6, 1), (1, 1), (5, 5), (random.Next(2, 30), random.Next(2, 30)), (random.Next(2, 30), random.Next(30, 60)), (random.Next(30, 60), random.Next(2, 30))];

    private static double Iterate(NewtonSchulz method, double x)
    {
        for (var step = 0; step < method.Steps; step++)
        {
            var (a, b, c) = method.Table[Math.Min(step, method.Table.Count - 1)];
            x = (a * x) + (b * Math.Pow(x, 3)) + (c * Math.Pow(x, 5));
        }

        return x;
    }

    private static double Divisor(NormGuard guard, double norm, double epsilon) => guard switch
    {
        NormGuard.Added => norm + epsilon,
        NormGuard.Floor => Math.Max(norm, epsilon),
        _ => (1.02 * norm) + epsilon,
    };

    private static double[] Bits(Tensor x) => x.To(DType.Float64).ToArray<double>();
}

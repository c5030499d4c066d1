using Moe.Models;
using Moe.Torch;
using Moe.Torch.Kernels;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class GroupedProductTests(Device device) : KernelTests(device)
{
    [Test]
    public void Products_equal_those_of_each_group(
        [Values("3 0 5", "0 0", "1 1 1", "64 0 17 33", "0 9", "200")] string lengths,
        [Values(8, 5, 24)] int inner,
        [Values(16, 3)] int outer,
        [ValueSource(typeof(KernelTests), nameof(Types))] DType type)
    {
        var counts = Array.ConvertAll(lengths.Split(' '), long.Parse);
        MustBeProductsOfGroups(type, counts, beyond: 0, inner, outer);
    }

    [Test]
    public void What_stands_beyond_the_last_group_does_not_matter([ValueSource(typeof(KernelTests), nameof(Types))] DType type, [Values(6)] int times)
    {
        for (var time = 0; time < times; time++)
        {
            using var scope = new TensorScope();
            var counts = Enumerable.Range(0, Random.Next(1, 6)).Select(_ => (long)(Random.Next(4) == 0 ? Random.Next(2) : Random.Next(520))).ToArray();
            MustBeProductsOfGroups(type, counts, Random.Next(1, 30), 8 * Random.Next(1, 40), 8 * Random.Next(1, 70));
        }
    }

    [TestCase(256)]
    [TestCase(257)]
    public void Many_groups_are_few_rows_each(int groups) =>
        MustBeProductsOfGroups(DType.BFloat16, [.. Enumerable.Range(0, groups).Select(_ => (long)Random.Next(3))], 3, 24, 40);

    [Test]
    public void Without_a_row_in_any_group_there_are_zeros() => MustBeProductsOfGroups(DType.BFloat16, new long[5], 40, 136, 72);

    // More tiles than a GPU has room for, and more steps of a sum than are fetched ahead.
    [Test]
    public void Large_groups_of_unequal_sizes() =>
        MustBeProductsOfGroups(DType.BFloat16, [.. Enumerable.Range(0, 24).Select(_ => (long)Random.Next(400))], 17, 328, 1032);

    // Faults of a kernel whose blocks wait for each other are hangs, and rare: one in some hundreds of launches, without a wait of the host between them.
    [Test]
    public void Ten_thousand_products_come_to_an_end()
    {
        if (!Place.IsCuda)
        {
            Assert.Ignore("blocks that wait for each other are a GPU's");
        }

        const int experts = 32;
        var (rows, arriving, matrices) = (Normal(DType.BFloat16, 8_192, 512), Normal(DType.BFloat16, 8_192, 1024), Normal(DType.BFloat16, experts, 1024, 512));
        Tensor[] slots = [matrices, Normal(DType.BFloat16, experts, 1024, 512), Normal(DType.BFloat16, experts, 1024, 512).Abs()];
        var update = new StackedUpdate(UpdateRule.Adam, slots, SteppedProductTests.Table(Random, experts), SkipsIdle: true);
        for (var time = 0; time < 2_000; time++)
        {
            using var scope = new TensorScope();
            double[] shares = [.. Enumerable.Range(0, experts).Select(_ => Random.Next(4) == 0 ? 0 : Math.Exp(2 * Random.NextDouble()))];
            var groups = new RowGroups(RowGroups.Of([.. shares.Select(share => (long)(8_000 * share / shares.Sum()))]).Offsets!.To(Place));
            GroupedProduct.Rows(rows, matrices.Transpose(), groups);
            GroupedProduct.Gated(rows, matrices, groups, null);
            GroupedProduct.Rows(arriving, matrices, groups);
            GroupedProduct.GatedBackward(arriving, matrices, groups, arriving, null);
            GroupedProduct.Matrices(arriving, rows, groups);
            GroupedProduct.Step(arriving, rows, groups, update);
        }

        MustBeProductsOfGroups(DType.BFloat16, [700, 0, 1300, 1], beyond: 48, inner: 512, outer: 1024); // and the device still computes
    }

    [Test]
    public void Gated_products_have_the_bits_of_a_product_and_an_activation(
        [Values("3 0 5", "0 0", "64 0 17 33 300", "1100 0 520 9")] string lengths,
        [Values(64, 192, 320, 40)] int hidden,
        [Values] bool isWeighted,
        [ValueSource(typeof(KernelTests), nameof(Types))] DType type)
    {
        const int beyond = 7;
        var counts = Array.ConvertAll(lengths.Split(' '), long.Parse);
        var (total, groups) = (counts.Sum(), new RowGroups(RowGroups.Of(counts).Offsets!.To(Place)));
        var (rows, gateUp) = (WithNaNs(Normal(type, total, 136), beyond), Normal(type, counts.Length, 2 * hidden, 136) * 0.2);
        var weights = isWeighted ? WithNaNs(Normal(type, total, 1).To(type.Work()), beyond).Contiguous().View(total + beyond) : null;
        var (products, activation) = GroupedProduct.Gated(rows, gateUp, groups, weights);
        var expected = GroupedProduct.Rows(rows, gateUp.Transpose(), groups);
        MustHaveTheBits(products.Narrow(0, 0, total), expected.Narrow(0, 0, total));
        MustHaveTheBits(activation.Narrow(0, 0, total), GatedRows.Activate(expected, weights).Narrow(0, 0, total));
    }

    [Test]
    public void Gradients_of_gated_products_have_the_bits_of_a_product_and_an_activations_backward(
        [Values("3 0 5", "0 0", "1 64 0 17 33 7 300", "1100 0 520 9")] string lengths,
        [Values(64, 192, 320, 1024, 40)] int hidden,
        [Values] bool isWeighted,
        [ValueSource(typeof(KernelTests), nameof(Types))] DType type)
    {
        const int beyond = 7;
        var counts = Array.ConvertAll(lengths.Split(' '), long.Parse);
        var (total, groups) = (counts.Sum(), new RowGroups(RowGroups.Of(counts).Offsets!.To(Place)));
        var (arriving, down) = (WithNaNs(Normal(type, total, 136), beyond), Normal(type, counts.Length, 136, hidden) * 0.2);
        var gatesAndUps = WithNaNs(Normal(type, total, 2 * hidden), beyond).Contiguous();
        var weights = isWeighted ? WithNaNs(Normal(type, total, 1).To(type.Work()), beyond).Contiguous().View(total + beyond) : null;
        var actual = GroupedProduct.GatedBackward(arriving, down, groups, gatesAndUps, weights);
        var product = GroupedProduct.Rows(arriving, down, groups);
        var expected = GatedRows.Backward(gatesAndUps, weights, product);
        MustHaveTheBits(actual.Activation.Narrow(0, 0, total), expected.Activation.Narrow(0, 0, total));
        MustHaveTheBits(actual.Gradient.Narrow(0, 0, total), expected.Gradient.Narrow(0, 0, total));
        Assert.That(actual.WeightGradient is null, Is.Not.EqualTo(isWeighted));
        if (actual.WeightGradient is { } ofWeights)
        {
            var terms = SwiGlu.Reference(Wide(gatesAndUps.Narrow(0, 0, total))) * Wide(product.Narrow(0, 0, total));
            MustBeClose(ofWeights.Narrow(0, 0, total), terms.Sum(1), "gradient of the weights", magnitudes: terms.Abs().Sum(1));
            var again = GroupedProduct.GatedBackward(arriving, down, groups, gatesAndUps, weights).WeightGradient!;
            MustHaveTheBits(again.Narrow(0, 0, total), ofWeights.Narrow(0, 0, total));
        }
    }

    // The same tensors were made and freed just before: an allocator gives their memory back, of NaN but for what was written since.
    [TestCase(1)]
    [TestCase(8)]
    [TestCase(23)]
    public void Gradients_of_gated_products_stop_where_the_last_group_does(int beyond)
    {
        const int hidden = 1024;
        long[] counts = [700, 0, 1, 1207 + Random.Next(64)];
        if (!Place.IsCuda)
        {
            Assert.Ignore("products on this device write rows that are in no group");
        }

        var (total, groups) = (counts.Sum(), new RowGroups(RowGroups.Of(counts).Offsets!.To(Place)));
        var rows = total + beyond;
        var (arriving, down) = (Normal(DType.BFloat16, rows, 128), Normal(DType.BFloat16, counts.Length, 128, hidden));
        var (gatesAndUps, weights) = (Normal(DType.BFloat16, rows, 2 * hidden), Normal(DType.Float32, rows));
        using (new TensorScope())
        {
            for (var i = 0; i < 8; i++)
            {
                Tensor.Full([rows, hidden], double.NaN, DType.BFloat16, Place);
                Tensor.Full([rows, 2 * hidden], double.NaN, DType.BFloat16, Place);
                Tensor.Full([rows], double.NaN, DType.Float32, Place);
            }
        }

        var (activation, gradient, ofWeights) = GroupedProduct.GatedBackward(arriving, down, groups, gatesAndUps, weights);
        foreach (var result in new[] { activation, gradient, ofWeights! })
        {
            var numbers = Wide(result);
            Assert.That(numbers.Narrow(0, 0, total).ToArray<double>().Any(double.IsNaN), Is.False);
            Assert.That(numbers.Narrow(0, total, beyond).ToArray<double>().All(double.IsNaN));
        }
    }

    [Test]
    public void Groups_that_do_not_fit_are_refused()
    {
        var (rows, gateUp, ends) = (Normal(DType.BFloat16, 8, 64), Normal(DType.BFloat16, 2, 128, 64), RowGroups.Of(3, 5).Offsets!);
        var apart = Shaping.Stack([ends, ends], 1).To(Place).Select(1, 0);
        Assert.Multiple(() =>
        {
            Assert.That(() => GroupedProduct.Gated(rows, gateUp, new RowGroups(apart), null), Throws.TypeOf<TorchException>().With.Message.Contains("offsets should be int32"));
            Assert.That(
                () => GroupedProduct.Gated(rows, gateUp, new RowGroups(RowGroups.Of(8).Offsets!.To(Place)), null),
                Throws.TypeOf<TorchException>().With.Message.Contains("offsets should be int32"));
            Assert.That(
                () => GroupedProduct.Gated(Normal(DType.BFloat16, 8, 32), gateUp, new RowGroups(ends.To(Place)), null),
                Throws.TypeOf<TorchException>().With.Message.Contains("a grouped product of"));
            Assert.That(
                () => GroupedProduct.GatedBackward(Normal(DType.BFloat16, 8, 128), gateUp, new RowGroups(ends.To(Place)), Normal(DType.BFloat16, 8, 64), null),
                Throws.TypeOf<TorchException>().With.Message.Contains("should be a contiguous"));
        });
    }

    [Test]
    public void One_group_is_one_product()
    {
        var (rows, matrices) = (Normal(DType.Float32, 9, 8), Normal(DType.Float32, 1, 6, 8));
        var groups = RowGroups.Whole(9);
        var expected = rows.Linear(matrices.Select(0, 0));
        MustBeClose(GroupedProduct.Rows(rows, matrices.Transpose(), groups), expected, "rows");
        MustBeClose(GroupedProduct.Matrices(expected, rows, groups), expected.Transpose().MatMul(rows).Unsqueeze(0), "matrices");
        Assert.That(groups.Lengths(), Is.EqualTo(new long[] { 9 }));
        Assert.That(
            () => GroupedProduct.Rows(rows, Normal(DType.Float32, 2, 8, 6), groups), Throws.TypeOf<TorchException>().With.Message.Contains("one group"));
    }

    [Test]
    public void Two_runs_have_the_same_bits()
    {
        var groups = new RowGroups(RowGroups.Of(40, 0, 24).Offsets!.To(Place));
        var (rows, arriving) = (Normal(DType.Float32, 64, 32), Normal(DType.Float32, 64, 48));
        var first = GroupedProduct.Matrices(arriving, rows, groups).ToArray<float>();
        Assert.That(GroupedProduct.Matrices(arriving, rows, groups).ToArray<float>(), Is.EqualTo(first));
    }

    [Test]
    public void Products_of_any_size_and_strides([ValueSource(typeof(KernelTests), nameof(Types))] DType type, [Values(140, 1500)] int deepest)
    {
        const int times = 40;
        for (var time = 0; time < times; time++)
        {
            using var scope = new TensorScope();
            var (rows, inner, outer) = (Random.Next(1, 150), Random.Next(1, deepest), Random.Next(1, 120));
            var (left, right) = (Placed(type, rows, inner), Placed(type, inner, outer));
            var what = $"[{rows}, {inner}] times [{inner}, {outer}], the {time}th";
            var actual = GroupedProduct.Rows(left, right.Unsqueeze(0), RowGroups.Whole(rows));
            var (expected, magnitudes) = (Wide(left).MatMul(Wide(right)), Wide(left).Abs().MatMul(Wide(right).Abs()));
            MustBeClose(actual, expected, what, magnitudes: magnitudes);
            MustBeClose(GroupedProduct.Matrices(left.Transpose(), right, RowGroups.Whole(inner)).Select(0, 0), expected, what, magnitudes: magnitudes);
        }
    }

    [Test]
    public void Bits_of_a_row_do_not_depend_on_the_rows_beside_it([Values(DType.Float32, DType.BFloat16)] DType type)
    {
        if (Place.IsCuda || !System.Runtime.Intrinsics.X86.Avx2.IsSupported)
        {
            Assert.Ignore("products on this device are a library's");
        }

        var (rows, matrix) = (Normal(type, 61, 70), Normal(type, 1, 70, 45));
        var whole = GroupedProduct.Rows(rows, matrix, RowGroups.Whole(61)).To(DType.Float32);
        var part = GroupedProduct.Rows(rows.Narrow(0, 13, 29), matrix, RowGroups.Whole(29)).To(DType.Float32);
        Assert.That(part.ToArray<float>(), Is.EqualTo(whole.Narrow(0, 13, 29).ToArray<float>()));
    }

    private void MustBeProductsOfGroups(DType type, long[] counts, int beyond, int inner, int outer)
    {
        var total = counts.Sum();
        var groups = new RowGroups(RowGroups.Of(counts).Offsets!.To(Place));
        var (rows, arriving) = (WithNaNs(Normal(type, total, inner), beyond), WithNaNs(Normal(type, total, outer), beyond));
        var matrices = Normal(type, counts.Length, outer, inner);
        var what = $"{string.Join(' ', counts)} rows and {beyond} beyond, {inner} times {outer}";
        var (parts, arrivals) = (Wide(rows.Narrow(0, 0, total)).Split(counts), Wide(arriving.Narrow(0, 0, total)).Split(counts));

        var products = parts.Select((part, i) => part.MatMul(Wide(matrices.Select(0, i)).Transpose())).ToArray();
        MustBeClose(GroupedProduct.Rows(rows, matrices.Transpose(), groups).Narrow(0, 0, total), Shaping.Concatenate(products), what);

        var back = arrivals.Select((part, i) => part.MatMul(Wide(matrices.Select(0, i)))).ToArray();
        MustBeClose(GroupedProduct.Rows(arriving, matrices, groups).Narrow(0, 0, total), Shaping.Concatenate(back), what + ", back");

        var gradients = arrivals.Zip(parts, (left, right) => left.Transpose().MatMul(right)).ToArray();
        var first = GroupedProduct.Matrices(arriving, rows, groups);
        MustBeClose(first, Shaping.Stack(gradients), what + ", matrices");
        Assert.That(first.IsContiguous);
        Assert.That(groups.Lengths(), Is.EqualTo(counts));
        var again = Wide(GroupedProduct.Matrices(arriving, rows, groups)).ToArray<double>();
        Assert.That(again.AsSpan().SequenceEqual(Wide(first).ToArray<double>()), what + ", again");
    }

    // Rows of a wider matrix, of NaN but for them.
    private Tensor WithNaNs(Tensor rows, int beyond)
    {
        var around = Tensor.Full([rows.Size(0) + beyond, rows.Size(1) + (8 * Random.Next(3))], double.NaN, rows.DType, Place);
        around.Narrow(0, 0, rows.Size(0)).Narrow(1, 0, rows.Size(1)).CopyFrom_(rows);
        return around.Narrow(1, 0, rows.Size(1));
    }

    // A part of a larger matrix of NaN, row by row or column by column.
    private Tensor Placed(DType type, int rows, int columns)
    {
        var isTurned = Random.Next(2) == 0;
        var (height, width) = isTurned ? (columns, rows) : (rows, columns);
        var (above, before) = (Random.Next(3), Random.Next(3));
        var around = Tensor.Full([height + above + Random.Next(3), width + before + Random.Next(3)], double.NaN, type, Place);
        var part = around.Narrow(0, above, height).Narrow(1, before, width);
        part.CopyFrom_(Normal(type, height, width));
        return isTurned ? part.Transpose() : part;
    }
}

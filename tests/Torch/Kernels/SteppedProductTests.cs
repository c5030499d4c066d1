using Moe.Torch;
using Moe.Torch.Kernels;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

/// <summary>Matrices that a product steps by the gradients which it makes: the bits of the product and an update after it.</summary>
[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class SteppedProductTests(Device device) : KernelTests(device)
{
    private const int Hopper = 90; // its compute capability

    [Test]
    public void Matrices_are_stepped_as_by_an_update_of_its_own(
        [Values("3 0 5", "0 0", "1100 0 520 9", "1 64 0 17 33 7 300")] string lengths,
        [Values(64, 136, 520)] int outer,
        [Values(8, 328)] int inner,
        [Values] bool skipsIdle)
    {
        var counts = Array.ConvertAll(lengths.Split(' '), long.Parse);
        MustStep(counts, outer, inner, skipsIdle, beyond: Random.Next(9));
    }

    [Test]
    public void Shapes_and_groups_of_any_size([Values(20)] int times)
    {
        for (var time = 0; time < times; time++)
        {
            using var scope = new TensorScope();
            var counts = Enumerable.Range(0, Random.Next(1, 40)).Select(_ => (long)(Random.Next(3) == 0 ? 0 : Random.Next(300))).ToArray();
            MustStep(counts, 8 * Random.Next(1, 50), 8 * Random.Next(1, 50), Random.Next(2) == 0, Random.Next(40));
        }
    }

    [TestCase(DType.Float32, 0), TestCase(DType.BFloat16, 0.1)]
    public void What_no_kernel_steps_is_left(DType type, double coupledDecay)
    {
        var groups = new RowGroups(RowGroups.Of(3, 5).Offsets!.To(Place));
        var (left, right) = (Normal(type, 8, 16), Normal(type, 8, 24));
        Tensor[] slots = [.. Enumerable.Range(0, 3).Select(_ => Normal(type, 2, 16, 24))];
        var before = slots.Select(slot => slot.Clone()).ToArray();
        var table = Table(Random, 2);
        table[1, 1] = coupledDecay;
        Assert.That(GroupedProduct.Step(left, right, groups, new StackedUpdate(UpdateRule.Adam, slots, table, SkipsIdle: false)), Is.Null);
        for (var slot = 0; slot < slots.Length; slot++)
        {
            MustHaveTheBits(slots[slot], before[slot]);
        }
    }

    [Test]
    public void An_update_of_other_matrices_is_refused()
    {
        var groups = new RowGroups(RowGroups.Of(3, 5).Offsets!.To(Place));
        var slots = Slots(2, 16, 24);
        var (left, right) = (Normal(DType.BFloat16, 8, 16), Normal(DType.BFloat16, 8, 24));
        Assert.Multiple(() =>
        {
            Assert.That(() => GroupedProduct.Step(left, right, groups, Adam(slots[..2], Table(Random, 2))), Throws.TypeOf<TorchException>().With.Message.Contains("not 2 slots"));
            Assert.That(() => GroupedProduct.Step(left, right, groups, Adam(slots, Table(Random, 3))), Throws.TypeOf<TorchException>().With.Message.Contains("not 30 for 2 matrices"));
            Assert.That(() => GroupedProduct.Step(left, right, groups, Adam(slots, new double[2, 9])), Throws.TypeOf<TorchException>().With.Message.Contains("not 18 for 2 matrices"));
        });
        if (Place.IsCuda)
        {
            Assert.That(
                () => GroupedProduct.Step(left, Normal(DType.BFloat16, 8, 32), groups, Adam(slots, Table(Random, 2))),
                Throws.TypeOf<TorchException>().With.Message.Contains("a slot of the update"));
        }
    }

    private static StackedUpdate Adam(Tensor[] slots, double[,] table) => new(UpdateRule.Adam, slots, table, SkipsIdle: false);

    private void MustStep(long[] counts, int outer, int inner, bool skipsIdle, int beyond)
    {
        var groups = new RowGroups(RowGroups.Of(counts).Offsets!.To(Place));
        var rows = counts.Sum() + beyond;
        var (left, right) = (Normal(DType.BFloat16, rows, outer), Normal(DType.BFloat16, rows, inner));
        var table = Table(Random, counts.Length);
        var (expected, actual) = (Slots(counts.Length, outer, inner), Array.Empty<Tensor>());
        actual = Array.ConvertAll(expected, slot => slot.Clone());
        var stepped = GroupedProduct.Step(left, right, groups, new StackedUpdate(UpdateRule.Adam, actual, table, skipsIdle));
        Assert.That(stepped is not null, Is.EqualTo(rows > 0 && Place.IsCuda && CudaRuntime.Describe(Place).Capability == Hopper), "what has a kernel for this");
        if (stepped is null)
        {
            MustHaveTheBits(actual[0], expected[0]);
            return;
        }

        var gradient = GroupedProduct.Matrices(left, right, groups);
        int[] active = [.. Enumerable.Range(0, counts.Length).Where(group => counts[group] > 0 || !skipsIdle)];
        if (active.Length > 0)
        {
            var coefficients = new double[active.Length, table.GetLength(1)];
            for (var i = 0; i < active.Length; i++)
            {
                for (var j = 0; j < table.GetLength(1); j++)
                {
                    coefficients[i, j] = table[active[i], j];
                }
            }

            Tensor[] Of(Tensor stacked) => [.. active.Select(group => stacked.Select(0, group))];
            MultiTensor.Update(UpdateRule.Adam, coefficients, Of(expected[0]), Of(gradient), Of(expected[1]), Of(expected[2]));
        }

        for (var slot = 0; slot < expected.Length; slot++)
        {
            MustHaveTheBits(actual[slot], expected[slot]);
        }

        var wide = Wide(gradient);
        var squares = (wide * wide).Sum(2).Sum(1);
        MustBeClose(stepped.To(Device.Cpu), squares, "squares", DType.Float32);
    }

    private Tensor[] Slots(int groups, int outer, int inner) =>
        [Normal(DType.BFloat16, groups, outer, inner), Normal(DType.BFloat16, groups, outer, inner), Normal(DType.BFloat16, groups, outer, inner).Abs()];

    // Of AdamW: gradient scale, coupled decay, decay factor, betas, root scale, epsilon, -step; others for each matrix.
    internal static double[,] Table(Random random, int groups)
    {
        var table = new double[groups, 10];
        for (var group = 0; group < groups; group++)
        {
            double[] row = [0.5 + random.NextDouble(), 0, 0.99, 0.9, 0.1, 0.95, 0.05, 1 + random.NextDouble(), 1e-8, -random.NextDouble()];
            for (var i = 0; i < row.Length; i++)
            {
                table[group, i] = row[i];
            }
        }

        return table;
    }
}

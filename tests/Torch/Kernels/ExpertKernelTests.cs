using System.Runtime.Intrinsics.X86;
using Moe.Models;
using Moe.Torch;
using Moe.Torch.Kernels;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

public sealed class ExpertKernelTests() : KernelTests(Device.Cpu)
{
    private static readonly DType[] WideTypes = [DType.Float64, DType.Float32];

    [Test]
    public void Outputs_and_gradients_equal_the_reference(
        [Values("3 0 5", "0 0", "1 1 1", "64 0 17 129", "200", "65 63")] string lengths,
        [Values("16 32", "48 16", "128 256", "80 112")] string widths,
        [Values] bool isWeighted,
        [ValueSource(nameof(WideTypes))] DType type)
    {
        var counts = Array.ConvertAll(lengths.Split(' '), long.Parse);
        var (width, hidden) = (long.Parse(widths.Split(' ')[0]), long.Parse(widths.Split(' ')[1]));
        TorchRuntime.Threads = Random.Next(1, counts.Length + 1); // every one has an expert
        if (type == DType.Float64 && width * hidden > 128 * 128)
        {
            Assert.That(Fits(type, counts.Length, width, hidden), Is.False, "more than the cache holds");
            return;
        }

        MustBeTaken(type, counts.Length, width, hidden);
        var total = counts.Sum();
        var inputs = new List<Tensor>
        {
            Normal(type, total, width),
            Normal(type, counts.Length, 2 * hidden, width) * Math.Sqrt(1.0 / width),
            Normal(type, counts.Length, width, hidden) * Math.Sqrt(1.0 / hidden),
        };
        if (isWeighted)
        {
            inputs.Add(Normal(type, total));
        }

        var arriving = Normal(type, total, width);
        var groups = RowGroups.Of(counts);
        var weights = isWeighted ? inputs[3] : null;
        var (first, output) = ExpertKernel.Forward(inputs[0], inputs[1], inputs[2], groups, weights);
        var gradients = ExpertKernel.Backward(inputs[0], inputs[1], inputs[2], groups, weights, first, arriving);

        var wide = inputs.ConvertAll(input => Leaf(Wide(input)));
        var expected = GroupedSwiGlu.Reference(wide[0], wide[1], wide[2], counts, isWeighted ? wide[3] : null);
        var projected = Wide(inputs[0]).Split(counts).Select((part, i) => part.Linear(Wide(inputs[1]).Select(0, i))).ToArray();
        MustBeClose(first, Shaping.Concatenate(projected), "the first projection");
        MustBeClose(output, expected, "the output");
        Autograd.Backward((expected * Wide(arriving)).Sum());
        MustBeClose(gradients.Rows, wide[0].Gradient!, "the rows' gradient");
        MustBeClose(gradients.GateUp, wide[1].Gradient!, "gate_up's gradient");
        MustBeClose(gradients.Down, wide[2].Gradient!, "down's gradient");
        if (isWeighted)
        {
            MustBeClose(gradients.Weights!, wide[3].Gradient!, "the weights' gradient");
        }
    }

    [Test]
    public void Large_gates_have_finite_results([ValueSource(nameof(WideTypes))] DType type)
    {
        TorchRuntime.Threads = 1;
        MustBeTaken(type, 1, 16, 16);
        var (rows, gateUp, down) = (Normal(type, 40, 16) * 1e6, Normal(type, 1, 32, 16) * 1e6, Normal(type, 1, 16, 16));
        var groups = RowGroups.Whole(40);
        var (first, output) = ExpertKernel.Forward(rows, gateUp, down, groups, null);
        var gradients = ExpertKernel.Backward(rows, gateUp, down, groups, null, first, Normal(type, 40, 16));
        MustBeClose(output, GroupedSwiGlu.Reference(Wide(rows), Wide(gateUp), Wide(down), [40]), "the output");
        foreach (var gradient in new[] { gradients.Rows, gradients.GateUp, gradients.Down })
        {
            Assert.That(Wide(gradient).ToArray<double>(), Has.All.Matches<double>(double.IsFinite));
        }
    }

    [Test]
    public void Gates_of_any_size_are_activated_to_a_few_units_of_the_last_place([ValueSource(nameof(WideTypes))] DType type)
    {
        TorchRuntime.Threads = 1;
        MustBeTaken(type, 1, 16, 16);
        double[] gates = [.. Enumerable.Range(-2_200, 4_401).Select(i => type == DType.Float32 ? (float)(i * 0.05) : i * 0.05)];
        var rows = Tensor.From([.. gates.SelectMany(gate => (double[])[gate, 1, .. new double[14]])], gates.Length, 16).To(type);
        var projection = new double[32 * 16];
        (projection[0], projection[(16 * 16) + 1]) = (1, 1); // the first gate is a row's first number, and what it lets through the second
        var down = new double[16 * 16];
        down[0] = 1;
        var (_, output) = ExpertKernel.Forward(
            rows, Tensor.From(projection, 1, 32, 16).To(type), Tensor.From(down, 1, 16, 16).To(type), RowGroups.Whole(gates.Length), null);
        var found = output.Select(1, 0).To(DType.Float64).ToArray<double>();
        var (relative, least) = type == DType.Float32 ? (5e-7, 1e-36) : (1e-14, 1e-300);
        for (var i = 0; i < gates.Length; i++)
        {
            var expected = gates[i] / (1 + Math.Exp(-gates[i]));
            Assert.That(found[i], Is.EqualTo(expected).Within((relative * Math.Abs(expected)) + least), $"of {gates[i]}");
        }
    }

    [Test]
    public void A_row_that_is_no_number_stays_none_and_alone([ValueSource(nameof(WideTypes))] DType type, [Values(double.NaN, double.PositiveInfinity)] double bad)
    {
        TorchRuntime.Threads = 1;
        MustBeTaken(type, 2, 32, 64);
        const int row = 13;
        var (groups, rows) = (RowGroups.Of(20, 9), Normal(type, 29, 32));
        rows.Narrow(0, row, 1).Fill_(bad);
        var (gateUp, down) = (Normal(type, 2, 128, 32), Normal(type, 2, 32, 64));
        var (hidden, output) = ExpertKernel.Forward(rows, gateUp, down, groups, null);
        var all = ExpertKernel.Backward(rows, gateUp, down, groups, null, hidden, Normal(type, 29, 32));
        Assert.Multiple(() =>
        {
            for (var i = 0; i < 29; i++)
            {
                Assert.That(IsFinite(output.Select(0, i)), Is.EqualTo(i != row), $"output {i}");
                Assert.That(IsFinite(all.Rows.Select(0, i)), Is.EqualTo(i != row), $"gradient {i}");
            }

            Assert.That(IsFinite(all.GateUp.Select(0, 0)), Is.False, "its expert's gradient");
            Assert.That(IsFinite(all.GateUp.Select(0, 1)) && IsFinite(all.Down.Select(0, 1)), "the other's");
        });

        static bool IsFinite(Tensor values) => values.IsFinite().All().Item() != 0;
    }

    [Test]
    public void What_it_does_not_take_is_said_before_and_refused()
    {
        var (rows, gateUp, down) = (Normal(DType.Float32, 4, 24), Normal(DType.Float32, 2, 32, 24), Normal(DType.Float32, 2, 24, 16));
        Assert.Multiple(() =>
        {
            Assert.That(ExpertKernel.Fits(rows, gateUp, down), Is.False, "a width that is no multiple of a cache line");
            Assert.That(Fits(DType.Float32, 1 << 10, 64, 64), Is.EqualTo(Avx2.IsSupported));
            Assert.That(Fits(DType.BFloat16, 1 << 10, 64, 64), Is.False);
            Assert.That(Fits(DType.Float32, 2, 1024, 1024), Is.False, "matrices larger than the cache");
            Assert.That(
                () => ExpertKernel.Forward(rows, gateUp, down, RowGroups.Of(1, 3), null), Throws.TypeOf<TorchException>().With.Message.Contains("don't suit this kernel"));
        });
    }

    private static void MustBeTaken(DType type, int experts, long width, long hidden)
    {
        if (!Avx2.IsSupported)
        {
            Assert.Ignore("the kernel is for processors with AVX2");
        }

        Assert.That(Fits(type, experts, width, hidden));
    }

    private static bool Fits(DType type, long experts, long width, long hidden)
    {
        using var scope = new TensorScope();
        return ExpertKernel.Fits(Tensor.Empty([1, width], type), Tensor.Empty([experts, 2 * hidden, width], type), Tensor.Empty([experts, width, hidden], type));
    }
}

using Moe.Models;
using Moe.Torch;
using Moe.Torch.Kernels;
using Moe.Torch.Native;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

/// <summary>The forms of the host's kernels for processors with fewer instructions than this one.</summary>
[Parallelizable(ParallelScope.None)] // the limit is the process's
public sealed class InstructionSetTests() : KernelTests(Device.Cpu)
{
    private const int Highest = 2;

    private static readonly string[] Names = ["baseline", "AVX2", "AVX-512"];

    [TearDown]
    public void TakeTheHighestAgain() => Abi.Check(Abi.LimitIsa(Highest, out _));

    [Test]
    public void Passes_over_rows_and_elements_have_the_same_bits([ValueSource(typeof(KernelTests), nameof(Types))] DType type, [Values(0, 1)] int set)
    {
        var work = type == DType.Float64 ? type : DType.Float32;
        using var rotary = new RotaryTable(40, 8, 100);
        var (x, change, arriving, norm) = (Normal(type, 40, 72), Normal(type, 40, 72), Normal(type, 40, 72), Normal(work, 72));
        var (logits, bias) = (Normal(work, 40, 30), Normal(DType.Float32, 30));
        var (head, one, targets) = (Normal(type, 700, 1), Tensor.Zeros([1, 1], type).Fill_(1), Tensor.From([123L], 1));
        var tokens = Tensor.From([.. Enumerable.Range(0, 40).Select(_ => Random.NextInt64(7))]);
        var order = PairOrder.Of(tokens.View(40, 1), 7);
        var rowWeights = Normal(work, 40);
        var rule = new RouterRule(2, 3, Sigmoid: true, Normalize: true, 1.5);
        Tensor[] state = [x, change, Normal(type, 40, 72), Normal(type, 40, 72).Abs()];
        var coefficients = new double[1, 10];
        for (var i = 0; i < 10; i++)
        {
            coefficients[0, i] = 0.1 + Random.NextDouble();
        }

        var expected = Results(Highest);
        var actual = Results(set);
        foreach (var (name, values) in expected)
        {
            Assert.That(actual[name], Is.EqualTo(values), name);
        }

        Dictionary<string, double[]> Results(int highest)
        {
            Limit(highest);
            var (normed, inverse) = RmsNormKernel.Forward(x, norm, 1e-5);
            var joined = RmsNormKernel.Forward(x, change, norm, 1e-5);
            var normGradients = RmsNormKernel.Backward(arriving, change, x, norm, inverse, true, true);
            var gated = GatedRows.Backward(x, rowWeights, arriving.Narrow(1, 0, 36).Contiguous());
            var heads = RotaryHeads.Apply(x, rotary, 5, 2, 40);
            var choice = RouterRows.Choose(logits, bias, rule);
            var loss = LinearCrossEntropyKernel.Forward(one, head, targets, false, true); // products of one term
            var stepped = Array.ConvertAll(state, slot => slot.Clone());
            MultiTensor.Update(UpdateRule.Adam, coefficients, [stepped[0]], [stepped[1]], [stepped[2]], [stepped[3]]);
            return new Dictionary<string, Tensor[]>
            {
                ["norm"] = [normed, inverse, joined.Sum, joined.Normed, normGradients.Rows!, normGradients.Weight!],
                ["activation"] = [GatedRows.Activate(x, rowWeights), gated.Activation, gated.Gradient, gated.WeightGradient!],
                ["rotary heads"] = [heads.Query, heads.Key, heads.Value],
                ["router"] = [choice.Weights, choice.ScoreSums, choice.SquaredLogSumExp, RouterRows.Backward(logits, choice.Ids, rule, choice.Weights, choice.ScoreSums, null)],
                ["loss"] = [loss.Loss, loss.Head!],
                ["embedding"] = [EmbeddingKernel.Backward(arriving, tokens, 7)],
                ["sum of rows"] = [order.Sum(x, change)],
                ["scale"] = [LinearCrossEntropyKernel.Scale(x.Clone(), Tensor.From([1.7]).To(work).View([]), type)],
                ["optimizer"] = stepped,
                ["norms"] = [Tensor.From(MultiTensor.Norms([x, change]))],
            }.ToDictionary(result => result.Key, result => result.Value.SelectMany(values => Wide(values).View(-1).ToArray<double>()).ToArray());
        }
    }

    [Test]
    public void Attention_equals_its_reference(
        [ValueSource(typeof(KernelTests), nameof(Types))] DType type, [Values(0, 1)] int set, [Values("2 20 6", "1 145 32")] string shape)
    {
        Limit(set);
        var (sequences, length, width) = Array.ConvertAll(shape.Split(' '), int.Parse) is [var b, var s, var h] ? (b, s, h) : default;
        using var rotary = new RotaryTable(length, width, 100);
        var oracle = new KernelOracle(Random, Place, type);
        oracle.AssertSame(
            x => [CausalAttention.Apply(x[0], rotary, 4, 2, length)],
            x => [CausalAttention.Reference(x[0], rotary, 4, 2, length)],
            [oracle.Normal(sequences * length, 8 * width)]);
    }

    [Test]
    public void Experts_and_their_products_equal_their_reference([ValueSource(typeof(KernelTests), nameof(Types))] DType type, [Values(0, 1)] int set)
    {
        Limit(set);
        long[] counts = [65, 0, 63];
        var inputs = new List<Tensor> { Normal(type, 128, 80), Normal(type, 3, 224, 80) * 0.1, Normal(type, 3, 80, 112) * 0.1 };
        var (narrow, wide) = (inputs.ConvertAll(Leaf), inputs.ConvertAll(input => Leaf(Wide(input))));
        var arriving = Normal(type, 128, 80);
        var actual = GroupedSwiGlu.Apply(narrow[0], narrow[1], narrow[2], RowGroups.Of(counts));
        var expected = GroupedSwiGlu.Reference(wide[0], wide[1], wide[2], counts);
        MustBeClose(actual, expected, "output");
        Autograd.Backward((actual * arriving).Sum());
        Autograd.Backward((expected * Wide(arriving)).Sum());
        MustBeClose(narrow[0].Gradient!, wide[0].Gradient!, "gradient of the rows");
        MustBeClose(narrow[1].Gradient!, wide[1].Gradient!, "gradient of gate_up");
        MustBeClose(narrow[2].Gradient!, wide[2].Gradient!, "gradient of down");
    }

    private static void Limit(int highest)
    {
        Abi.Check(Abi.LimitIsa(highest, out var used));
        if (used != highest && highest != Highest)
        {
            Assert.Ignore($"this processor has no {Names[highest]}");
        }
    }
}

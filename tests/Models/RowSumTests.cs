using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

/// <summary>
/// The sums that backward collects, against the same layer with a bias of zeros behind each projection: a bias has the sum of the rows'
/// gradients for its gradient.
/// </summary>
public class RowSumTests : ScopedTests
{
    private const int Width = 6;

    private static readonly TransformerOptions Shape = new()
    {
        Layers = 1,
        Width = Width,
        Heads = 2,
        KeyValueHeads = 1,
        HeadWidth = 4,
        SequenceLength = 5,
        Vocabulary = 2,
        InitStd = 0.8,
        Moe = new() { Experts = 4, TopK = 2, ExpertWidth = 3, SharedExperts = 2 },
    };

    [Test]
    public void Attention_sums_the_rows_of_its_projections()
    {
        var initializer = new ParameterInitializer(3, DType.Float64);
        using var rotary = new RotaryTable(5, 4, 10000);
        var attention = new SelfAttention("attention", Shape, rotary, initializer);
        var (qkv, output) = (initializer.Parameters[0], initializer.Parameters[1]);
        var sums = Collect(initializer.Parameters);
        var (x, seed) = (Random.Normal([15, Width]), Random.Normal([15, Width]));
        var actual = attention.Forward(x, 5);
        Autograd.Backward(actual, seed);

        var (first, second) = (Zeros(qkv), Zeros(output));
        var mixed = CausalAttention.Apply(x.Linear(qkv.Value) + first, rotary, 2, 1, 5);
        var expected = mixed.Linear(output.Value) + second;
        Autograd.Backward(expected, seed);
        Assert.That(Oracle.Difference(actual, expected), Is.LessThan(1e-14), "what is collected changes nothing");
        MustBe(sums[qkv], x.Sum(0, keep: true), first.Gradient!.Unsqueeze(0), 15);
        MustBe(sums[output], mixed.Sum(0, keep: true), second.Gradient!.Unsqueeze(0), 15);
    }

    [Test]
    public void Experts_sum_the_rows_of_their_own_tokens_and_one_without_tokens_sums_nothing()
    {
        const int Idle = 2;
        var initializer = new ParameterInitializer(5, DType.Float64);
        using var layer = new MoeFeedForward("moe", Shape, new LocalDispatcher(4), initializer);
        layer.Bias.Value.Span<float>()[Idle] = -100;
        var (gateUp, down) = (initializer.Parameters[1], initializer.Parameters[2]);
        var (sharedGateUp, sharedDown) = (initializer.Parameters[3], initializer.Parameters[4]);
        var sums = Collect(initializer.Parameters);
        var (x, seed) = (Random.Normal([9, Width]), Random.Normal([9, Width]));
        var routing = layer.Route(x, new Batch(Length: 1, 1, 1));
        var actual = layer.Forward(x, routing);
        Autograd.Backward(actual, seed);

        Tensor[] biases = [Zeros(gateUp), Zeros(down), Zeros(sharedGateUp), Zeros(sharedDown)];
        var (ids, weights) = (routing.ExpertIds.ToArray<long>(), routing.Weights.Detach().ToArray<double>());
        var expected = Dense(x, sharedGateUp.Value, sharedDown.Value, biases[2], biases[3], out var sharedActivation);
        for (var expert = 0; expert < 4; expert++)
        {
            // Tokens of others have the weight 0.
            double[] share = [.. Enumerable.Range(0, 9).Select(t => Enumerable.Range(2 * t, 2).Where(pair => ids[pair] == expert).Sum(pair => weights[pair]))];
            var chosen = Tensor.From([.. share.Select(weight => weight > 0 ? 1.0 : 0)], 9, 1);
            var own = Dense(
                x, gateUp.Value.Select(0, expert), down.Value.Select(0, expert), biases[0].Select(0, expert), biases[1].Select(0, expert), out var activation);
            expected += own * Tensor.From(share, 9, 1);
            var count = share.Count(weight => weight > 0);
            Assert.That(count, expert == Idle ? Is.Zero : Is.AtMost(9));
            MustBe(sums[gateUp], expert, (x * chosen).Sum(0), count);
            MustBe(sums[down], expert, (activation * chosen).Sum(0), count);
        }

        Autograd.Backward(expected, seed);
        Assert.That(Oracle.Difference(actual, expected), Is.LessThan(1e-13));
        Assert.That(Oracle.Difference(sums[gateUp].OutputGradient, biases[0].Gradient!), Is.LessThan(1e-12));
        Assert.That(Oracle.Difference(sums[down].OutputGradient, biases[1].Gradient!), Is.LessThan(1e-12));
        MustBe(sums[sharedGateUp], x.Sum(0, keep: true), biases[2].Gradient!.Unsqueeze(0), 9);
        MustBe(sums[sharedDown], sharedActivation.Sum(0, keep: true), biases[3].Gradient!.Unsqueeze(0), 9);
    }

    [Test]
    public void Only_backward_collects_and_only_while_asked()
    {
        using var model = new Transformer(
            Shape with { Vocabulary = 11 }, new LocalDispatcher(4), seed: 1, DType.Float64, DType.Float64);
        var sums = Collect(model.Parameters.Where(parameter => parameter.Kind is ParameterKind.Matrix or ParameterKind.Expert));
        var (tokens, targets) = (Random.Tokens(2, 5, 11), Random.Tokens(2, 5, 11));
        _ = model.CountSelections(tokens, 1);
        _ = model.Forward(tokens, targets, 1);
        Assert.That(sums.Values.Select(sum => sum.Count.Abs().Max().Item()), Is.All.Zero, "no backward");
        Autograd.Backward(model.Forward(tokens, targets, 1).LossSum);
        Assert.That(sums.Where(pair => pair.Key.ExpertIds is null).Select(pair => pair.Value.Count.Item()), Is.All.EqualTo(10));
        Assert.That(sums.Where(pair => pair.Key.ExpertIds is not null).Select(pair => pair.Value.Count.Sum().Item()), Is.All.EqualTo(20));
        foreach (var parameter in model.Parameters)
        {
            parameter.RowSums = null;
        }

        Autograd.Backward(model.Forward(tokens, targets, 1).LossSum);
        Assert.That(sums.Where(pair => pair.Key.ExpertIds is null).Select(pair => pair.Value.Count.Item()), Is.All.EqualTo(10), "left");
    }

    [Test]
    public void Entries_are_clipped_before_they_are_added()
    {
        var sums = new RowSums(Zeros64(1, 2), Zeros64(1, 1), Zeros64(1), clip: 3);
        sums.Add(Tensor.From(new float[] { 1, -7, 5, 2 }, 2, 2), Tensor.From(new float[] { -4, 1 }, 2, 1), [2]);
        Assert.That(sums.Input.ToArray<double>(), Is.EqualTo(new double[] { 4, -1 }));
        Assert.That(sums.OutputGradient.ToArray<double>(), Is.EqualTo(new double[] { -2 }));
        Assert.That(sums.Count.Item(), Is.EqualTo(2));
    }

    private static Dictionary<Parameter, RowSums> Collect(IEnumerable<Parameter> parameters)
    {
        Dictionary<Parameter, RowSums> sums = [];
        foreach (var parameter in parameters.Where(parameter => parameter.Value.Rank > 1))
        {
            var experts = parameter.ExpertIds?.Length ?? 1;
            parameter.RowSums = new RowSums(
                Zeros64(experts, parameter.Value.Size(-1)), Zeros64(experts, parameter.Value.Size(-2)), Zeros64(experts), double.MaxValue);
            sums.Add(parameter, parameter.RowSums);
        }

        return sums;
    }

    private static Tensor Dense(Tensor x, Tensor gateUp, Tensor down, Tensor first, Tensor second, out Tensor activation)
    {
        activation = SwiGlu.Reference(x.Linear(gateUp) + first);
        return activation.Linear(down) + second;
    }

    private static Tensor Zeros(Parameter weight) => Zeros64(weight.Value.Shape[..^1]).Leaf();

    private static Tensor Zeros64(params long[] shape) => Tensor.Zeros(shape, DType.Float64);

    private static void MustBe(RowSums sums, Tensor input, Tensor outputGradient, long count)
    {
        MustBe(sums, 0, input.Select(0, 0), count);
        Assert.That(Oracle.Difference(sums.OutputGradient, outputGradient), Is.LessThan(1e-12));
    }

    private static void MustBe(RowSums sums, int expert, Tensor input, long count)
    {
        Assert.That(Oracle.Difference(sums.Input.Select(0, expert), input), Is.LessThan(1e-12));
        Assert.That(sums.Count.ToArray<double>()[expert], Is.EqualTo(count));
    }
}

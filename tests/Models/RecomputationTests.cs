using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

/// <summary>What is computed again, or waits in host memory, changes no bit of a loss or a gradient.</summary>
public class RecomputationTests : ScopedTests
{
    private static readonly TransformerOptions Small = new()
    {
        Layers = 3,
        Width = 12,
        Heads = 4,
        KeyValueHeads = 2,
        HeadWidth = 4,
        SequenceLength = 10,
        Vocabulary = 17,
        DenseLayers = 1,
        DenseWidth = 9,
        InitStd = 0.3,
        Moe = new() { Experts = 6, TopK = 2, ExpertWidth = 5, SharedExperts = 1 },
    };

    private static IEnumerable<TransformerOptions> Shapes =>
    [
        Small,
        Small with { Norm = NormPlacement.Peri, QueryKeyNorm = true, TieEmbeddings = true, Moe = Small.Moe with { TopK = 1, SharedExperts = 0 } },
        Small with { Norm = NormPlacement.Peri, Moe = Small.Moe with { TopK = 1, CapacityFactor = 0.7, DropPolicy = DropPolicy.Position } },
        Small with { Moe = Small.Moe with { Score = RouterScore.Sigmoid, CapacityFactor = 0.9, RoutedScale = 2 } },
        Small with { DenseLayers = 3 },
        Small with { Width = 32, DenseWidth = 32, Moe = Small.Moe with { ExpertWidth = 16 } }, // widths of whole cache lines, as the experts' kernel wants them
        Small with { Width = 128, DenseWidth = 32, Moe = Small.Moe with { ExpertWidth = 64 } },
    ];

    private static IEnumerable<ActivationPlan> Plans =>
    [
        new(Recomputation.Experts),
        new(Recomputation.Block),
        new(Recomputation.Block, Layers: 2),
    ];

    [Test]
    public void Loss_counts_and_all_gradients_are_those_of_keeping_everything(
        [ValueSource(nameof(Shapes))] TransformerOptions options, [Values(DType.Float64, DType.Float32, DType.BFloat16)] DType type)
    {
        var (tokens, targets) = (Random.Tokens(4, 10, 17), Random.Tokens(4, 10, 17));
        var expected = Pass(options, type, new(), tokens, targets);
        foreach (var plan in Plans)
        {
            foreach (var store in new[] { null, new HostStore(Device.Cpu) })
            {
                var actual = Pass(options, type, plan with { Store = store }, tokens, targets);
                Assert.That(actual.Keys, Is.EqualTo(expected.Keys));
                foreach (var (name, numbers) in expected)
                {
                    Assert.That(actual[name], Is.EqualTo(numbers), $"{name}, {plan.Recompute} in {plan.Layers} layers, {(store is null ? "" : "stored")}");
                }
            }
        }

        var stored = Pass(options, type, new(Store: new HostStore(Device.Cpu)), tokens, targets);
        Assert.That(stored.All(entry => entry.Value.SequenceEqual(expected[entry.Key])), "nothing computed again, but stored");
    }

    [Test]
    public void Frozen_parameters_get_no_gradient_and_the_others_the_same([Values(0, 1, 2)] int trained)
    {
        var (tokens, targets) = (Random.Tokens(2, 10, 17), Random.Tokens(2, 10, 17));
        var expected = Pass(Small, DType.Float64, new(), tokens, targets, trained);
        var actual = Pass(Small, DType.Float64, new(Recomputation.Block), tokens, targets, trained);
        Assert.That(actual.Keys, Is.EqualTo(expected.Keys).And.Not.Contains("embedding"));
        Assert.That(actual.Keys, Does.Contain($"layers.{trained}.attention.qkv"));
        Assert.That(actual.All(entry => entry.Value.SequenceEqual(expected[entry.Key])));
    }

    [Test]
    public void Nothing_of_a_graph_outlives_it_whether_backward_came_or_not([ValueSource(nameof(Plans))] ActivationPlan plan, [Values] bool backward)
    {
        using var store = new HostStore(Device.Cpu);
        using var model = Model(Small, DType.Float32, plan with { Store = store });
        var tokens = Random.Tokens(2, 10, 17);
        Pass();
        var before = Tensor.LiveCount;
        Pass();
        Assert.That(Tensor.LiveCount, Is.EqualTo(before));
        Assert.That(store.Bytes, Is.Zero);

        void Pass()
        {
            using var scope = new TensorScope();
            var loss = model.Forward(tokens, tokens, 1).LossSum;
            Assert.That(store.Bytes, plan.Recompute == Recomputation.Experts ? Is.Zero : Is.Positive, "on one rank the tokens of the experts are kept by others too");
            if (backward)
            {
                Autograd.Backward(loss);
            }
        }
    }

    [Test]
    public void A_pass_without_gradients_keeps_and_stores_nothing()
    {
        using var store = new HostStore(Device.Cpu);
        using var model = Model(Small, DType.Float32, new(Recomputation.Block, Store: store));
        using var plain = Model(Small, DType.Float32, new());
        var tokens = Random.Tokens(2, 10, 17);
        using var mode = Autograd.NoGrad();
        Assert.That(model.Forward(tokens, tokens, 1).LossSum.Item(), Is.EqualTo(plain.Forward(tokens, tokens, 1).LossSum.Item()));
        Assert.That(model.Logits(tokens).ToArray<float>(), Is.EqualTo(plain.Logits(tokens).ToArray<float>()));
        Assert.That(model.CountSelections(tokens, 2).ToArray<long>(), Is.EqualTo(plain.CountSelections(tokens, 2).ToArray<long>()));
        Assert.That(store.Bytes, Is.Zero);
    }

    [Test]
    public void An_exception_of_the_second_pass_arrives_as_itself_and_leaves_a_usable_model()
    {
        using var model = Model(Small, DType.Float64, new(Recomputation.Block));
        var tokens = Random.Tokens(2, 10, 17);
        var backward = false;
        model.LayerStarting = layer => _ = backward && layer == 1 ? throw new IOException("the cable is out") : 0;
        var loss = model.Forward(tokens, tokens, 1).LossSum;
        backward = true;
        Assert.That(() => Autograd.Backward(loss), Throws.TypeOf<IOException>().With.Message.EqualTo("the cable is out"));
        backward = false;
        foreach (var parameter in model.Parameters)
        {
            parameter.Value.Gradient = null;
        }

        Autograd.Backward(model.Forward(tokens, tokens, 1).LossSum);
        Assert.That(model.Parameters.Select(parameter => parameter.Value.Gradient!.Abs().Sum().Item()), Is.All.Not.NaN);
    }

    [Test]
    public void Layers_are_computed_again_from_the_last_to_the_first()
    {
        using var model = Model(Small, DType.Float32, new(Recomputation.Block));
        var started = new List<int>();
        model.LayerStarting = started.Add;
        var tokens = Random.Tokens(2, 10, 17);
        Autograd.Backward(model.Forward(tokens, tokens, 1).LossSum);
        Assert.That(started, Is.EqualTo(new[] { 0, 1, 2, 2, 1, 0 }));
    }

    // Loss, counts and gradients, accumulated over two passes, and the sums of rows that backward collects, each once.
    private static SortedDictionary<string, double[]> Pass(
        TransformerOptions options, DType type, ActivationPlan plan, Tensor tokens, Tensor targets, int? trained = null)
    {
        using var scope = new TensorScope();
        using var model = Model(options, type, plan);
        var numbers = new SortedDictionary<string, double[]>(StringComparer.Ordinal);
        foreach (var parameter in model.Parameters.Where(parameter => trained is null || parameter.Layer == trained))
        {
            if (parameter is { Kind: ParameterKind.Matrix or ParameterKind.Expert, Layer: not 2 }) // one layer without: nobody asks for sums there
            {
                var experts = parameter.ExpertIds?.Length ?? 1;
                parameter.RowSums = new RowSums(
                    Tensor.Zeros([experts, parameter.Value.Size(-1)], DType.Float64),
                    Tensor.Zeros([experts, parameter.Value.Size(-2)], DType.Float64),
                    Tensor.Zeros([experts], DType.Float64),
                    clip: 100);
            }
        }

        foreach (var parameter in model.Parameters)
        {
            parameter.Value.RequiresGrad = trained is null || parameter.Layer == trained;
        }

        for (var pass = 0; pass < 2; pass++)
        {
            var result = model.Forward(tokens, targets, 1, 2);
            var loss = result.LossSum;
            if (result.Routers.Count > 0)
            {
                loss = loss + BalanceLoss.Local(result.Routers) * 0.3 + BalanceLoss.RouterZ(result.Routers) * 0.1;
                numbers[$"counts {pass}"] = [.. result.Routers.SelectMany(router => router.Counts.ToArray<long>()).Select(count => (double)count)];
                numbers[$"dropped {pass}"] = [.. result.Routers.Select(router => router.Dropped.Item())];
            }

            numbers[$"loss {pass}"] = [loss.Item()];
            Autograd.Backward(loss);
        }

        foreach (var parameter in model.Parameters)
        {
            if (parameter.Value.Gradient is { } gradient)
            {
                numbers[parameter.Name] = gradient.To(DType.Float64).ToArray<double>();
            }

            if (parameter.RowSums is { } sums)
            {
                numbers[$"rows of {parameter.Name}"] = [.. sums.Input.ToArray<double>(), .. sums.OutputGradient.ToArray<double>(), .. sums.Count.ToArray<double>()];
            }
        }

        return numbers;
    }

    private static Transformer Model(TransformerOptions options, DType type, ActivationPlan plan) =>
        new(options, new LocalDispatcher(6), 11, type == DType.Float64 ? type : DType.Float32, type) { Activations = plan };
}

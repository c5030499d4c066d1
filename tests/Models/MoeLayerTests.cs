using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

/// <summary>A layer of experts against the definition: each token by itself, through each of its experts.</summary>
public class MoeLayerTests : ScopedTests
{
    private const int Width = 6;

    private static readonly MoeOptions Base = new() { Experts = 5, TopK = 2, ExpertWidth = 4 };

    private static IEnumerable<MoeOptions> Variants =>
    [
        Base,
        Base with { SharedExperts = 2, RoutedScale = 1.7 },
        Base with { TopK = 1, NormalizeWeights = false },
        Base with { TopK = 5, Score = RouterScore.Sigmoid },
        Base with { Score = RouterScore.Sigmoid, NormalizeWeights = false },
        Base with { CapacityFactor = 0.6 },
        Base with { CapacityFactor = 0.6, DropPolicy = DropPolicy.Position, Score = RouterScore.Sigmoid },
        Base with { Experts = 1, TopK = 1 },
    ];

    [TestCaseSource(nameof(Variants))]
    public void Result_and_every_gradient_equal_the_sum_over_tokens_and_experts(MoeOptions options)
    {
        var (layer, parameters) = Layer(options);
        var x = Random.Normal([12, Width]).Leaf();
        var routing = layer.Route(x, InSegments(2));
        var actual = layer.Forward(x, routing);
        var seed = Random.Normal(actual.Shape);
        Autograd.Backward(actual, seed);
        Tensor[] leaves = [x, .. parameters.Select(parameter => parameter.Value)];
        var gradients = Array.ConvertAll(leaves, leaf => leaf.Gradient!.Clone());
        Array.ForEach(leaves, leaf => leaf.Gradient = null);

        var expected = BruteForce(x, options, parameters, routing.ExpertIds.ToArray<long>());
        Autograd.Backward(expected, seed);
        Assert.That(Oracle.Difference(actual, expected), Is.LessThan(1e-12));
        for (var i = 0; i < leaves.Length; i++)
        {
            Assert.That(Oracle.Difference(gradients[i], leaves[i].Gradient!), Is.LessThan(1e-12), i == 0 ? "x" : parameters[i - 1].Name);
        }
    }

    [Test]
    public void One_expert_is_a_dense_layer()
    {
        var (layer, parameters) = Layer(Base with { Experts = 1, TopK = 1 });
        var x = Random.Normal([7, Width]);
        var dense = GroupedSwiGlu.Reference(x, parameters[1].Value, parameters[2].Value, [7]);
        Assert.That(Oracle.Difference(layer.Forward(x, layer.Route(x, InSegments(1))), dense), Is.LessThan(1e-13));
    }

    [Test]
    public void Identical_experts_are_a_dense_layer_times_the_scale([Values(1, 3, 5)] int topK)
    {
        var (layer, parameters) = Layer(Base with { TopK = topK, RoutedScale = 2.5 });
        var (gateUp, down) = (parameters[1].Value.Detach(), parameters[2].Value.Detach());
        gateUp.CopyFrom_(gateUp.Narrow(0, 0, 1).Clone());
        down.CopyFrom_(down.Narrow(0, 0, 1).Clone());
        var x = Random.Normal([7, Width]);
        var dense = GroupedSwiGlu.Reference(x, gateUp.Narrow(0, 0, 1), down.Narrow(0, 0, 1), [7]) * 2.5;
        Assert.That(Oracle.Difference(layer.Forward(x, layer.Route(x, InSegments(1))), dense), Is.LessThan(1e-13));
    }

    [Test]
    public void Large_capacity_drops_nothing([Values] DropPolicy policy)
    {
        var (free, _) = Layer(Base);
        var (limited, _) = Layer(Base with { CapacityFactor = 5.0 / 2, DropPolicy = policy });
        var x = Random.Normal([10, Width]);
        var routing = limited.Route(x, InSegments(1));
        Assert.That(routing.Statistics.Dropped.Item(), Is.Zero);
        Assert.That(limited.Forward(x, routing).ToArray<double>(), Is.EqualTo(free.Forward(x, free.Route(x, InSegments(1))).ToArray<double>()));
    }

    [Test]
    public void Token_whose_choices_were_all_dropped_gets_the_shared_experts_only()
    {
        var (layer, parameters) = Layer(Base with { TopK = 1, CapacityFactor = 0.1, DropPolicy = DropPolicy.Position, SharedExperts = 1 });
        var x = Random.Normal([1, Width]).Expand(8, Width).Contiguous();
        var output = layer.Forward(x, layer.Route(x, InSegments(1)));
        var shared = GroupedSwiGlu.Reference(x, parameters[3].Value.Unsqueeze(0), parameters[4].Value.Unsqueeze(0), [8]);
        Assert.That(Oracle.Difference(output.Narrow(0, 1, 7), shared.Narrow(0, 1, 7)), Is.LessThan(1e-13));
        Assert.That(Oracle.Difference(output.Narrow(0, 0, 1), shared.Narrow(0, 0, 1)), Is.GreaterThan(1e-6));
    }

    [Test]
    public void Experts_nobody_chose_and_routers_get_gradients_without_tokens()
    {
        var (layer, parameters) = Layer(Base with { SharedExperts = 1 });
        var x = Tensor.Zeros([0, Width], DType.Float64).Leaf();
        var output = layer.Forward(x, layer.Route(x, InSegments(0)));
        Autograd.Backward(output.Sum());
        Assert.That(output.Shape, Is.EqualTo(new long[] { 0, Width }));
        Assert.That(parameters.Where(parameter => parameter.Value.Gradient is null).Select(parameter => parameter.Name), Is.Empty);
        Assert.That(parameters.Max(parameter => parameter.Value.Gradient!.Abs().Max().Item()), Is.Zero);
    }

    private static Batch InSegments(long segments) => new(Length: 1, segments, segments);

    private static (MoeFeedForward Layer, IReadOnlyList<Parameter> Parameters) Layer(MoeOptions options)
    {
        var initializer = new ParameterInitializer(11, DType.Float64);
        var shape = new TransformerOptions
        {
            Layers = 1,
            Width = Width,
            Heads = 1,
            KeyValueHeads = 1,
            HeadWidth = 2,
            SequenceLength = 1,
            Vocabulary = 2,
            InitStd = 0.8,
            Moe = options,
        };
        return (new MoeFeedForward("moe", shape, new LocalDispatcher(options.Experts), initializer), initializer.Parameters);
    }

    // Weights are worked out anew from the definition; only the choice itself, which has no gradient, is taken over.
    private static Tensor BruteForce(Tensor x, MoeOptions options, IReadOnlyList<Parameter> parameters, long[] kept)
    {
        var rows = new Tensor[x.Size(0)];
        for (var token = 0; token < rows.Length; token++)
        {
            var row = x.Narrow(0, token, 1);
            var logits = row.Linear(parameters[0].Value);
            var scores = options.Score == RouterScore.Softmax ? logits.Exp() / logits.Exp().Sum() : logits.Sigmoid();
            var best = scores.Detach().ToArray<double>().Index().OrderByDescending(score => score.Item).Take(options.TopK).Select(score => score.Index).ToArray();
            var total = best.Aggregate(Tensor.Zeros([], DType.Float64), (sum, expert) => sum + scores.Select(1, expert).Sum());
            rows[token] = row * 0;
            for (var slot = 0; slot < options.TopK; slot++)
            {
                if (kept[token * options.TopK + slot] == options.Experts)
                {
                    continue;
                }

                Assert.That(kept[token * options.TopK + slot], Is.EqualTo(best[slot]));
                var weight = scores.Select(1, best[slot]) / (options.NormalizeWeights ? total : Tensor.Ones([], DType.Float64)) * options.RoutedScale;
                rows[token] += Expert(row, parameters[1].Value.Select(0, best[slot]), parameters[2].Value.Select(0, best[slot])) * weight;
            }

            if (options.SharedExperts > 0)
            {
                rows[token] += Expert(row, parameters[3].Value, parameters[4].Value);
            }
        }

        return Shaping.Concatenate(rows);
    }

    private static Tensor Expert(Tensor row, Tensor gateUp, Tensor down)
    {
        var (gate, up) = (row.Linear(gateUp.Narrow(0, 0, gateUp.Size(0) / 2)), row.Linear(gateUp.Narrow(0, gateUp.Size(0) / 2, gateUp.Size(0) / 2)));
        return (gate / (gate.Negate().Exp() + 1) * up).Linear(down);
    }
}

using Moe.Distributed;
using Moe.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

public class TransformerTests : ScopedTests
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
        Small with { Norm = NormPlacement.Peri, QueryKeyNorm = true, TieEmbeddings = true },
        Small with { Moe = Small.Moe with { Score = RouterScore.Sigmoid, CapacityFactor = 0.9, RoutedScale = 2 } },
        Small with { DenseLayers = 3 },
    ];

    [Test]
    public void A_pass_has_the_same_bits_on_any_number_of_threads([Values(DType.Float64, DType.Float32, DType.BFloat16)] DType type)
    {
        // Experts are at least as many as threads, and large enough for several; without dense ones, of which there is but one.
        var options = Small with { Width = 64, HeadWidth = 16, SequenceLength = 64, DenseLayers = 0, Moe = Small.Moe with { ExpertWidth = 32, SharedExperts = 0 } };
        var (tokens, targets) = (Random.Tokens(16, 64, 17), Random.Tokens(16, 64, 17));
        var before = TorchRuntime.Threads;
        try
        {
            var expected = Numbers(1);
            for (var threads = 2; threads <= 4; threads++)
            {
                foreach (var (name, numbers) in Numbers(threads))
                {
                    Assert.That(numbers, Is.EqualTo(expected[name]), $"{name} on {threads} threads");
                }
            }
        }
        finally
        {
            TorchRuntime.Threads = before;
        }

        Dictionary<string, double[]> Numbers(int threads)
        {
            TorchRuntime.Threads = threads;
            using var model = new Transformer(options, new LocalDispatcher(6), 11, type == DType.Float64 ? type : DType.Float32, type);
            var loss = model.Forward(tokens, targets, 1).LossSum;
            Autograd.Backward(loss);
            var numbers = model.Parameters.ToDictionary(parameter => parameter.Name, parameter => parameter.Value.Gradient!.To(DType.Float64).ToArray<double>());
            numbers["loss"] = [loss.Item()];
            return numbers;
        }
    }

    [TestCaseSource(nameof(Shapes))]
    public void Later_tokens_never_change_earlier_logits(TransformerOptions shape)
    {
        // A full expert drops by the whole segment, later tokens included: causal only without a limit.
        var options = shape with { Moe = shape.Moe with { CapacityFactor = null } };
        using var model = Model(options);
        var tokens = Random.Tokens(2, 10, 17);
        var before = model.Logits(tokens);
        var changed = tokens.Clone();
        changed.Span<long>()[6] = (changed.Span<long>()[6] + 1) % 17;
        var after = model.Logits(changed);
        Assert.That(Oracle.Difference(after.Narrow(1, 0, 6).Select(0, 0), before.Narrow(1, 0, 6).Select(0, 0)), Is.LessThan(1e-12));
        Assert.That(Oracle.Difference(after.Select(0, 1), before.Select(0, 1)), Is.LessThan(1e-12));
        Assert.That(Oracle.Difference(after.Select(0, 0).Select(0, 6), before.Select(0, 0).Select(0, 6)), Is.GreaterThan(1e-6));
    }

    [TestCaseSource(nameof(Shapes))]
    public void What_follows_the_last_token_has_the_scores_of_its_place(TransformerOptions options)
    {
        using var model = Model(options);
        var tokens = Random.Tokens(3, 7, 17);
        Assert.That(Oracle.Difference(model.NextLogits(tokens), model.Logits(tokens).Select(1, 6)), Is.LessThan(1e-12));
    }

    [TestCaseSource(nameof(Shapes))]
    public void Every_gradient_is_the_slope_of_the_loss(TransformerOptions options)
    {
        // A token repeated from the start would have equal scores, between which a full expert chooses by the last bit.
        const double Step = 1e-7;
        using var model = Model(options);
        var different = Enumerable.Range(0, 17).Select(token => (long)token).ToArray();
        Random.Shuffle(different);
        var (tokens, targets) = (Tensor.From(different).Narrow(0, 0, 10).Expand(2, 10).Contiguous(), Random.Tokens(2, 10, 17));
        Autograd.Backward(Loss());
        foreach (var parameter in model.Parameters)
        {
            var direction = Random.Normal(parameter.Value.Shape, 1);
            var expected = (parameter.Value.Gradient! * direction).Sum().Item();

            // One side suffices: on the other a token may be about to choose another expert, where the loss jumps.
            double[] slopes = [(At(Step) - At(0)) / Step, (At(0) - At(-Step)) / Step];
            Assert.That(slopes.Min(slope => Math.Abs(slope - expected)), Is.LessThan(1e-3 * (1 + Math.Abs(expected))), parameter.Name);

            double At(double step)
            {
                using var mode = Autograd.NoGrad();
                parameter.Value.Add_(direction, step);
                var loss = Loss().Item();
                parameter.Value.Add_(direction, -step);
                return loss;
            }
        }

        Tensor Loss()
        {
            var result = model.Forward(tokens, targets, 1);
            return result.LossSum + BalanceLoss.RouterZ(result.Routers) * 0.1;
        }
    }

    [Test]
    public void Loss_is_the_sum_of_the_targets_negative_log_probabilities()
    {
        using var model = Model(Small);
        var (tokens, targets) = (Random.Tokens(3, 7, 17), Random.Tokens(3, 7, 17));
        var expected = -model.Logits(tokens).LogSoftmax(-1).Gather(2, targets.Unsqueeze(2)).Sum().Item();
        Assert.That(model.Forward(tokens, targets, 1).LossSum.Item(), Is.EqualTo(expected).Within(1e-10));
    }

    [Test]
    public void Loss_and_statistics_of_a_batch_are_the_sums_of_its_sequences()
    {
        using var model = Model(Small with { Moe = Small.Moe with { CapacityFactor = 0.8 } });
        var (tokens, targets) = (Random.Tokens(4, 10, 17), Random.Tokens(4, 10, 17));
        var whole = model.Forward(tokens, targets, 2);
        var halves = new[] { 0, 2 }.Select(at => model.Forward(tokens.Narrow(0, at, 2), targets.Narrow(0, at, 2), 2)).ToArray();
        Assert.That(halves.Sum(half => half.LossSum.Item()), Is.EqualTo(whole.LossSum.Item()).Within(1e-10));
        Assert.That(halves.Sum(half => BalanceLoss.Local(half.Routers).Item()), Is.EqualTo(BalanceLoss.Local(whole.Routers).Item()).Within(1e-10));
        Assert.That(whole.Routers.Sum(router => router.Dropped.Item()), Is.EqualTo(halves.Sum(half => half.Routers.Sum(router => router.Dropped.Item()))));
        for (var layer = 0; layer < 2; layer++)
        {
            var counts = Shaping.Concatenate([.. halves.Select(half => half.Routers[layer].Counts)]);
            Assert.That(whole.Routers[layer].Counts.ToArray<long>(), Is.EqualTo(counts.ToArray<long>()));
        }
    }

    [TestCaseSource(nameof(Shapes))]
    public void Counting_pass_finds_the_counts_of_the_forward(TransformerOptions options)
    {
        using var model = Model(options);
        var tokens = Random.Tokens(4, 9, 17);
        var expected = model.Forward(tokens, tokens, 2).Routers.SelectMany(router => router.Counts.Sum(0).ToArray<long>());
        var started = new List<int>();
        model.LayerStarting = started.Add;
        var counts = model.CountSelections(tokens, 2);
        Assert.That(started.Distinct(), Is.EqualTo(Enumerable.Range(0, options.DenseLayers == 3 ? 2 : 3)));
        Assert.That(counts.Shape, Is.EqualTo(new long[] { 3 - options.DenseLayers, 6 }));
        Assert.That(counts.ToArray<long>(), Is.EqualTo(expected));
        Assert.That(counts.RequiresGrad, Is.False);
    }

    [Test]
    public void Bfloat16_stays_near_float32()
    {
        var tokens = Random.Tokens(4, 10, 17);
        using var single = new Transformer(Small, new LocalDispatcher(6), 3);
        using var half = new Transformer(Small, new LocalDispatcher(6), 3, DType.Float32, DType.BFloat16);
        var expected = single.Forward(tokens, tokens, 1).LossSum.Item();
        var loss = half.Forward(tokens, tokens, 1).LossSum;
        Autograd.Backward(loss);
        Assert.That(loss.DType, Is.EqualTo(DType.Float32));
        Assert.That(loss.Item(), Is.EqualTo(expected).Within(3).Percent);
        Assert.That(half.Parameters.Select(parameter => parameter.Value.Gradient!.DType), Is.All.EqualTo(DType.Float32));
    }

    [Test]
    public void Float32_and_float64_start_at_the_same_weights_and_agree()
    {
        var tokens = Random.Tokens(2, 10, 17);
        using var single = new Transformer(Small, new LocalDispatcher(6), 3);
        using var wide = Model(Small, 3);
        foreach (var (left, right) in single.Parameters.Zip(wide.Parameters))
        {
            Assert.That(Oracle.Difference(left.Value, right.Value), Is.Zero, left.Name);
        }

        Assert.That(single.Forward(tokens, tokens, 1).LossSum.Item(), Is.EqualTo(wide.Forward(tokens, tokens, 1).LossSum.Item()).Within(1e-4));
    }

    [Test]
    public void Initial_weights_depend_on_seed_and_key_and_have_the_stated_spread()
    {
        using var model = Model(Small with { Width = 64, DenseLayers = 0 }, 5);
        using var other = Model(Small with { Width = 64, DenseLayers = 0 }, 6);
        var weights = model.Parameters.SelectMany(parameter => parameter.Logical(parameter.Value)).ToDictionary(item => item.Key, item => item.Value);
        var key = "layers.1.moe.experts.4.gate";
        var expected = new float[5 * 64];
        new RandomStream(5, key).FillNormal(expected, 0, 0, 0.3);
        Assert.That(weights[key].ToArray<double>(), Is.EqualTo(expected.Select(x => (double)x)));
        Assert.That(Spread(weights["embedding"]), Is.EqualTo(0.3).Within(10).Percent);
        Assert.That(Spread(weights["layers.0.attention.output"]), Is.EqualTo(0.3 / Math.Sqrt(6)).Within(10).Percent);
        Assert.That(Oracle.Difference(model.Parameters[0].Value, other.Parameters[0].Value), Is.GreaterThan(0.1));

        static double Spread(Tensor x) => x.Norm().Item() / Math.Sqrt(x.Count);
    }

    [Test]
    public void Empty_batch_has_no_loss_and_zero_gradients()
    {
        using var model = Model(Small);
        var none = Tensor.Zeros([0, 10], DType.Int64);
        var result = model.Forward(none, none, 2);
        Autograd.Backward(result.LossSum + BalanceLoss.Local(result.Routers) + BalanceLoss.RouterZ(result.Routers));
        Assert.That(result.LossSum.Item(), Is.Zero);
        Assert.That(model.Parameters.Where(parameter => parameter.Value.Gradient is null).Select(parameter => parameter.Name), Is.Empty);
        Assert.That(model.Parameters.Max(parameter => parameter.Value.Gradient!.Abs().Max().Item()), Is.Zero);
    }

    [Test]
    public void Two_layers_learn_a_batch_by_heart()
    {
        using var model = new Transformer(Small with { Layers = 2, InitStd = 0.1 }, new LocalDispatcher(6), 1);
        var (tokens, targets) = (Random.Tokens(2, 10, 17), Random.Tokens(2, 10, 17));

        // No two places may look alike, or nobody could learn their targets: attention sees no difference between one token and the same one twice.
        foreach (var (place, token) in new[] { (0, 3L), (1, 4L), (10, 5L), (11, 6L) })
        {
            tokens.Span<long>()[place] = token;
        }

        var velocity = model.Parameters.Select(parameter => Tensor.Zeros(parameter.Value.Shape)).ToArray();
        var loss = double.MaxValue;
        for (var step = 0; step < 3000 && loss > 0.1; step++)
        {
            using var scope = new TensorScope();
            var result = model.Forward(tokens, targets, 1).LossSum / 20;
            loss = result.Item();
            Autograd.Backward(result);
            using var mode = Autograd.NoGrad();
            foreach (var (parameter, speed) in model.Parameters.Zip(velocity))
            {
                speed.Multiply_(0.9).Add_(parameter.Value.Gradient!);
                parameter.Value.Add_(speed, -0.05); // at 0.1 some draws swing
                parameter.Value.Gradient = null;
            }
        }

        Assert.That(loss, Is.LessThan(0.1));
    }

    [Test]
    public void No_tensor_is_left_behind_by_a_hundred_steps()
    {
        var tokens = Random.Tokens(2, 10, 17);
        var before = Tensor.LiveCount;
        using (var model = new Transformer(Small, new LocalDispatcher(6), 1))
        {
            var afterFirst = 0L;
            for (var step = 0; step < 100; step++)
            {
                using (new TensorScope())
                {
                    var result = model.Forward(tokens, tokens, 1);
                    Autograd.Backward(result.LossSum + BalanceLoss.Local(result.Routers));
                    model.CountSelections(tokens, 1);
                    model.Logits(tokens);
                    model.NextLogits(tokens);
                }

                afterFirst = step == 0 ? Tensor.LiveCount : afterFirst;
            }

            Assert.That(Tensor.LiveCount, Is.EqualTo(afterFirst));
        }

        Assert.That(Tensor.LiveCount, Is.EqualTo(before));
    }

    [Test]
    public void Impossible_shapes_are_refused_with_their_numbers()
    {
        Assert.That(() => Model(Small with { KeyValueHeads = 3 }), Throws.ArgumentException.With.Message.Contains("4 query heads").And.Message.Contains("3 key"));
        Assert.That(() => Model(Small with { HeadWidth = 3 }), Throws.ArgumentException.With.Message.Contains("3 numbers"));
        Assert.That(() => Model(Small with { Moe = Small.Moe with { TopK = 7 } }), Throws.ArgumentException.With.Message.Contains("7 of 6"));
        Assert.That(() => new Transformer(Small, new LocalDispatcher(4), 1), Throws.ArgumentException.With.Message.Contains("4 experts, the model has 6"));
        Assert.That(() => new Transformer(Small, new LocalDispatcher(6), 1, DType.Float64), Throws.ArgumentException.With.Message.Contains("Float64"));
        using var model = Model(Small);
        Assert.That(() => model.Logits(Random.Tokens(1, 11, 17)), Throws.ArgumentException.With.Message.Contains("1 to 10"));
        Assert.That(() => model.CountSelections(Random.Tokens(3, 4, 17), 2), Throws.ArgumentException.With.Message.Contains("3 sequences"));
    }

    private static Transformer Model(TransformerOptions options, ulong seed = 1) =>
        new(options, new LocalDispatcher(options.Moe.Experts), seed, DType.Float64, DType.Float64);
}

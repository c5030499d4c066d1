using Moe.Models;
using Moe.Tests.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class LinearCrossEntropyTests(Device device) : ScopedTests
{
    private static readonly DType[] Types = [DType.Float32, DType.Float64, DType.BFloat16];

    // Tokens, width, classes, bytes of a chunk's logits.
    private static readonly long[][] Shapes =
    [
        [1, 1, 1, 1 << 20], [7, 5, 3, 1 << 20], [40, 16, 257, 1], [300, 32, 256, 1 << 16], [65, 24, 5003, 1 << 18], [900, 1000, 40, 1 << 20], [3, 8, 70001, 1 << 22], [0, 8, 11, 1 << 20],
    ];

    [Test]
    public void Loss_equals_its_reference([ValueSource(nameof(Types))] DType dtype, [ValueSource(nameof(Shapes))] long[] shape)
    {
        var oracle = new KernelOracle(Random, device, dtype);
        var (tokens, width, classes, bytes) = (shape[0], shape[1], shape[2], shape[3]);
        var targets = Targets(tokens, classes);
        var there = targets.To(device);
        oracle.AssertSame(
            x => [LinearCrossEntropy.Apply(x[0], x[1], there, bytes)],
            x => [LinearCrossEntropy.Reference(x[0], x[1], targets)],
            [oracle.Normal(tokens, width), oracle.Normal(classes, width) * HeadScale(width)]);
    }

    // Logits around 1, as a norm before a trained head makes them: a bfloat16 logit of 16 is off by up to 6 %, and so is its probability. A power of two
    // changes no digit.
    private static double HeadScale(long width) => Math.Pow(2, -Math.Ceiling(Math.Log2(width) / 2));

    [Test]
    public void A_class_far_ahead_costs_nothing_and_pulls_nothing([ValueSource(nameof(Types))] DType dtype, [Values(50_304, 50_257)] int classes)
    {
        const double logit = 1000;
        var (hidden, head) = (Tensor.Zeros([3, 8], dtype).Fill_(1), Tensor.Zeros([classes, 8], dtype));
        head.Narrow(0, 17, 1).Fill_(logit / 8);
        var (x, w) = (hidden.To(device), head.To(device));
        (x.RequiresGrad, w.RequiresGrad) = (true, true);
        var loss = LinearCrossEntropy.Apply(x, w, Tensor.From(new long[] { 17, 17, 17 }, 3).To(device));
        Autograd.Backward(loss);
        Assert.Multiple(() =>
        {
            Assert.That(loss.Item(), Is.Zero);
            Assert.That(x.Gradient!.Norm().Item(), Is.Zero);
            Assert.That(w.Gradient!.Norm().Item(), Is.Zero);
        });
    }

    [Test]
    public void A_class_that_cannot_be_has_no_share([ValueSource(nameof(Types))] DType dtype, [Values(24, 25, 5_000)] int classes)
    {
        // Of one number a token, the head has the logits; the first are those of whole threads of a GPU.
        double[] logits = [.. Enumerable.Range(0, classes).Select(i => i < 16 || Random.Next(4) == 0 ? double.NegativeInfinity : 0.5 * Random.Next(-8, 9))];
        logits[^1] = 1;
        var head = Tensor.From(logits, classes, 1).To(dtype).To(device).Leaf();
        var loss = LinearCrossEntropy.Apply(Tensor.Zeros([3, 1], dtype).Fill_(1).To(device), head, Tensor.From(Enumerable.Repeat(classes - 1L, 3).ToArray()).To(device));
        Autograd.Backward(loss);
        var sum = logits.Sum(Math.Exp);
        Assert.That(loss.Item(), Is.EqualTo(3 * (Math.Log(sum) - 1)).Within(0.01).Percent);
        Assert.That(
            head.Gradient!.To(Device.Cpu).To(DType.Float64).ToArray<double>(),
            Is.EqualTo(logits.Select((logit, i) => 3 * ((Math.Exp(logit) / sum) - (i == classes - 1 ? 1 : 0)))).Within(dtype == DType.BFloat16 ? 0.02 : 1e-5));
    }

    [Test]
    public void A_wider_heads_gradient_is_not_rounded_to_the_hidden_states_type()
    {
        var oracle = new KernelOracle(Random, device, DType.BFloat16);
        var targets = Targets(200, 50);
        var there = targets.To(device);
        var head = oracle.Normal(50, 64) * HeadScale(64);
        oracle.AssertSame(
            x => [LinearCrossEntropy.Apply(x[0], x[1], there, 1 << 13)],
            x => [LinearCrossEntropy.Reference(x[0], x[1], targets)],
            [oracle.Normal(200, 64), head],
            DType.BFloat16,
            DType.Float32);

        var leaf = head.To(DType.Float32).To(device);
        leaf.RequiresGrad = true;
        Autograd.Backward(LinearCrossEntropy.Apply(Random.Normal([200, 64], 1, DType.BFloat16).To(device), leaf, there));
        Assert.That(leaf.Gradient!.DType, Is.EqualTo(DType.Float32));
    }

    [Test]
    public void The_size_of_a_chunk_changes_the_order_of_sums_and_nothing_else()
    {
        var (hidden, head, targets) = (Random.Normal([100, 12]).To(device), Random.Normal([30, 12]).To(device), Targets(100, 30).To(device));
        var whole = Gradients(null);
        foreach (var bytes in new[] { 1L, 30 * 8 * 7, 30 * 8 * 99 })
        {
            var parts = Gradients(bytes);
            for (var i = 0; i < whole.Length; i++)
            {
                Assert.That((parts[i] - whole[i]).Norm().Item(), Is.LessThan(1e-12 * whole[i].Norm().Item()), $"{i} at {bytes} bytes");
            }
        }

        Tensor[] Gradients(long? bytes)
        {
            var (x, w) = (hidden.Clone(), head.Clone());
            (x.RequiresGrad, w.RequiresGrad) = (true, true);
            var loss = LinearCrossEntropy.Apply(x, w, targets, bytes);
            Autograd.Backward(loss);
            return [loss.Detach(), x.Gradient!, w.Gradient!];
        }
    }

    [Test]
    public void A_token_that_is_not_counted_adds_nothing()
    {
        var hidden = Random.Normal([9, 6], 1, DType.Float32).To(device);
        hidden.RequiresGrad = true;
        var head = Random.Normal([5, 6], 1, DType.Float32).To(device);
        head.RequiresGrad = true;
        var loss = LinearCrossEntropy.Apply(hidden, head, Tensor.From(Enumerable.Repeat(-100L, 9).ToArray()).To(device));
        Autograd.Backward(loss);
        Assert.Multiple(() =>
        {
            Assert.That(loss.Item(), Is.Zero);
            Assert.That(hidden.Gradient!.ToArray<float>(), Is.All.Zero);
            Assert.That(head.Gradient!.ToArray<float>(), Is.All.Zero);
        });
    }

    [Test]
    public void Nothing_but_the_loss_is_made_where_nothing_is_recorded()
    {
        var hidden = Random.Normal([9, 6], 1, DType.Float32).To(device);
        hidden.RequiresGrad = true;
        using var unrecorded = Autograd.NoGrad();
        var targets = Targets(9, 5).To(device);
        var head = Random.Normal([5, 6], 1, DType.Float32).To(device);
        var before = Tensor.LiveCount;
        var loss = LinearCrossEntropy.Apply(hidden, head, targets);
        Assert.That(Tensor.LiveCount, Is.EqualTo(before + 1));
        Assert.That(loss.RequiresGrad, Is.False);
    }

    [Test]
    public void A_target_outside_the_classes_does_not_pass_unseen()
    {
        var (hidden, head) = (Tensor.Ones([2, 3], device: device), Tensor.Ones([4, 3], device: device));
        var targets = Tensor.From([1L, 4L]).To(device);
        if (device.IsCuda)
        {
            Assert.That(LinearCrossEntropy.Apply(hidden, head, targets).Item(), Is.NaN);
        }
        else
        {
            Assert.That(() => LinearCrossEntropy.Apply(hidden, head, targets), Throws.TypeOf<TorchException>().With.Message.Contains("0 to 3"));
        }
    }

    // One in eight is not counted.
    private Tensor Targets(long tokens, long classes)
    {
        var targets = new long[tokens];
        for (var i = 0; i < tokens; i++)
        {
            targets[i] = Random.Next(8) == 0 ? -100 : Random.NextInt64(classes);
        }

        return Tensor.From(targets, tokens);
    }
}

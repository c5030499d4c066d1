using Moe.Distributed;
using Moe.Models;
using Moe.Tests.Torch;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

/// <summary>Recomputation and offload where a backward runs on a thread of its own, beside streams.</summary>
[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class RecomputationOnDeviceTests(Device device)
{
    private static readonly TransformerOptions Options = new()
    {
        Layers = 5,
        Width = 64,
        Heads = 2,
        KeyValueHeads = 2,
        HeadWidth = 32,
        SequenceLength = 32,
        Vocabulary = 64,
        DenseLayers = 1,
        DenseWidth = 64,
        InitStd = 0.2,
        Moe = new() { Experts = 8, TopK = 2, ExpertWidth = 32, SharedExperts = 1 },
    };

    // In the host's memory all is equal to the last bit; on a GPU attention's backward adds in an order that varies.
    private double Tolerance => device.IsCuda ? 0.02 : 0;

    [Test]
    public void Gradients_are_those_of_keeping_everything_in_place([Values] Recomputation recompute, [Values] bool offload, [Values(1, 3)] int passes)
    {
        using var scope = new TensorScope();
        var (expectedLoss, expected) = Gradients(new(), passes);
        var (loss, gradients) = Gradients(new(recompute, Store: offload ? new HostStore(device) : null), passes);
        Assert.That(loss, Is.EqualTo(expectedLoss), "a forward has one order");
        foreach (var (name, reference) in expected)
        {
            Assert.That(gradients[name].Zip(reference, (x, y) => Math.Abs(x - y)).Max(), Is.AtMost(Tolerance * reference.Max(Math.Abs)), name);
        }
    }

    private (double Loss, Dictionary<string, double[]> Gradients) Gradients(ActivationPlan plan, int passes)
    {
        using var scope = new TensorScope();
        using var model = new Transformer(Options, new LocalDispatcher(8), 3, DType.Float32, DType.BFloat16, device) { Activations = plan };
        long[] ids = [.. Enumerable.Range(0, 4 * 32).Select(i => (long)((i * 13) % 64))];
        var tokens = Tensor.From(ids, 4, 32).To(device);
        var loss = 0.0;
        for (var pass = 0; pass < passes; pass++)
        {
            using var inner = new TensorScope();
            var result = model.Forward(tokens, tokens, 1);
            var sum = result.LossSum + BalanceLoss.RouterZ(result.Routers) * 0.1;
            loss += sum.Item();
            Autograd.Backward(sum);
        }

        return (loss, model.Parameters.ToDictionary(parameter => parameter.Name, parameter => parameter.Value.Gradient!.To(DType.Float64).ToArray<double>()));
    }
}

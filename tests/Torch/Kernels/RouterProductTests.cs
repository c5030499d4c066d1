using Moe.Models;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class RouterProductTests(Device device) : KernelTests(device)
{
    [Test]
    public void Logits_and_gradients_have_float32_accuracy([Values("1 1 1", "33 40 5", "512 2048 64", "0 8 4")] string sizes)
    {
        var (tokens, width, experts) = Array.ConvertAll(sizes.Split(' '), int.Parse) is [var t, var d, var e] ? (t, d, e) : default;
        var (x, weight) = (Leaf(Normal(DType.BFloat16, tokens, width)), Leaf(Normal(DType.Float32, experts, width)));
        var (wideX, wideWeight) = (Leaf(Wide(x)), Leaf(Wide(weight)));
        var (actual, expected) = (RouterProduct.Apply(x, weight), RouterProduct.Reference(wideX, wideWeight));
        Assert.That((Wide(actual) - Wide(expected)).Norm().Item(), Is.AtMost(1e-5 * Wide(expected).Norm().Item())); // tensor cores drop the lowest bits of long sums

        var seed = Normal(DType.Float32, tokens, experts);
        Autograd.Backward((actual * seed).Sum());
        Autograd.Backward((expected * Wide(seed)).Sum());
        MustBeClose(x.Gradient!, wideX.Gradient!, "gradient of the rows");
        MustBeClose(weight.Gradient!, wideWeight.Gradient!, "gradient of the weight");
    }
}

using Moe.Models;
using Moe.Torch;
using Moe.Torch.Kernels;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class RouterProductTests(Device device) : KernelTests(device)
{
    private static readonly string[] Sizes =
    [
        "1 1 1", "33 40 5", "33 41 8", "5 72 264", "0 8 4", "0 64 16",
        "1 8 8", "7 64 16", "129 136 72", "1000 264 128", "70 264 256", "300 24 200", "1 2048 64", "512 2048 64", "4100 2888 8",
    ];

    [Test]
    public void Logits_and_gradients_have_float32_accuracy([ValueSource(nameof(Sizes))] string sizes)
    {
        var (tokens, width, experts) = Split(sizes);
        MustBeAccurate(Leaf(Normal(DType.BFloat16, tokens, width)), Leaf(Normal(DType.Float32, experts, width)), (x, weight) => (x, weight));
    }

    [Test]
    public void Numbers_at_an_odd_address_are_multiplied_too() => MustBeAccurate(
        Leaf(Normal(DType.BFloat16, (40 * 64) + 1)),
        Leaf(Normal(DType.Float32, (16 * 64) + 1)),
        (x, weight) => (x.Narrow(0, 1, 40 * 64).View(40, 64), weight.Narrow(0, 1, 16 * 64).View(16, 64)));

    [Test]
    public void Either_gradient_is_made_alone([Values("33 41 8", "129 136 72")] string sizes)
    {
        var (tokens, width, experts) = Split(sizes);
        var (x, weight, arriving) = (Normal(DType.BFloat16, tokens, width), Normal(DType.Float32, experts, width), Normal(DType.Float32, tokens, experts));
        var both = RouterProductKernel.Backward(x, weight, arriving, true, true);
        var ofInput = RouterProductKernel.Backward(x, weight, arriving, true, false);
        var ofWeight = RouterProductKernel.Backward(x, weight, arriving, false, true);
        Assert.That(ofInput.Weight, Is.Null);
        Assert.That(ofWeight.Input, Is.Null);
        Assert.That(Numbers(ofInput.Input!), Is.EqualTo(Numbers(both.Input!)));
        Assert.That(Numbers(ofWeight.Weight!), Is.EqualTo(Numbers(both.Weight!)));
    }

    [Test]
    public void Results_have_the_same_bits_each_time([Values("33 41 8", "3000 264 64")] string sizes)
    {
        var (tokens, width, experts) = Split(sizes);
        var (x, weight, arriving) = (Normal(DType.BFloat16, tokens, width), Normal(DType.Float32, experts, width), Normal(DType.Float32, tokens, experts));
        var first = Results();
        Assert.That(Results(), Is.EqualTo(first));

        double[] Results()
        {
            var (input, ofWeight) = RouterProductKernel.Backward(x, weight, arriving, true, true);
            return [.. Numbers(RouterProductKernel.Forward(x, weight)), .. Numbers(input!), .. Numbers(ofWeight!)];
        }
    }

    private static double[] Numbers(Tensor values) => Wide(values).View(-1).ToArray<double>();

    private static (int Tokens, int Width, int Experts) Split(string sizes) =>
        Array.ConvertAll(sizes.Split(' '), int.Parse) is [var tokens, var width, var experts] ? (tokens, width, experts) : default;

    private void MustBeAccurate(Tensor x, Tensor weight, Func<Tensor, Tensor, (Tensor X, Tensor Weight)> viewed)
    {
        var (wideX, wideWeight) = (Leaf(Wide(x)), Leaf(Wide(weight)));
        var (ownX, ownWeight) = viewed(x, weight);
        var (referenceX, referenceWeight) = viewed(wideX, wideWeight);
        var (actual, expected) = (RouterProduct.Apply(ownX, ownWeight), RouterProduct.Reference(referenceX, referenceWeight));
        Assert.That((Wide(actual) - Wide(expected)).Norm().Item(), Is.AtMost(1e-5 * Wide(expected).Norm().Item())); // tensor cores drop the lowest bits of long sums

        var seed = Normal(DType.Float32, actual.Shape);
        Autograd.Backward((actual * seed).Sum());
        Autograd.Backward((expected * Wide(seed)).Sum());
        MustBeClose(x.Gradient!, wideX.Gradient!, "gradient of the rows");
        MustBeClose(weight.Gradient!, wideWeight.Gradient!, "gradient of the weight");
    }
}

using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class HostStoreTests(Device device)
{
    private const int Functions = 9;

    [Test]
    public void What_waited_comes_back_as_it_was_whatever_else_used_the_memory([Values(1, 1000, 300_000)] int size)
    {
        using var scope = new TensorScope();
        using var store = new HostStore(device);
        var random = FreshRandom.Create();
        for (var pass = 0; pass < 3; pass++)
        {
            using var inner = new TensorScope();
            var length = size + random.Next(1 + (size / 10)); // buffers are given on between sizes
            var factors = Enumerable.Range(0, Functions).Select(_ => Values(random, length)).ToArray();
            var seed = Values(random, length);
            var (expected, actual) = (Gradient(factors, seed, null), Gradient(factors, seed, store));
            Assert.That(actual, Is.EqualTo(expected));
            Assert.That(store.Bytes, Is.Zero);
        }
    }

    [Test]
    public void All_but_the_last_two_functions_leave_the_device_until_backward()
    {
        using var scope = new TensorScope();
        using var store = new HostStore(device);
        var x = Tensor.Ones([1000], device: device);
        x.RequiresGrad = true;
        var y = x;
        for (var i = 0; i < Functions; i++)
        {
            y = Product.Apply(y, Tensor.Ones([1000], device: device), store);
            Assert.That(store.Bytes, Is.EqualTo(4000 * Math.Max(0, i - 1)));
        }

        Autograd.Backward(y.Sum());
        Assert.That(store.Bytes, Is.Zero);
        Assert.That(x.Gradient!.Sum().Item(), Is.EqualTo(1000));
    }

    [Test]
    public void Empty_tensors_stay_and_what_has_gaps_is_refused()
    {
        using var scope = new TensorScope();
        using var store = new HostStore(device);
        var x = Tensor.Ones([0], device: device);
        x.RequiresGrad = true;
        Autograd.Backward(Product.Apply(x, Tensor.Ones([0], device: device), store).Sum());
        Assert.That(store.Bytes, Is.Zero);

        var wide = Tensor.Ones([4, 3], device: device);
        wide.RequiresGrad = true;
        Assert.That(() => Product.Apply(wide, Tensor.Ones([3, 4], device: device).Transpose(), store), Throws.ArgumentException.With.Message.Contains("gaps"));
    }

    // Of sum(seed * x f1 f2 ...) with respect to x; other work takes what memory becomes free on the way.
    private float[] Gradient(Tensor[] factors, Tensor seed, HostStore? store)
    {
        var x = Tensor.Ones(seed.Shape, device: device);
        x.RequiresGrad = true;
        var y = x;
        foreach (var factor in factors)
        {
            using var passing = factor.Clone();
            y = Product.Apply(y, passing, store);
            passing.Dispose();
            using var other = Tensor.Full(seed.Shape, double.NaN, device: device);
        }

        Autograd.Backward(y, seed);
        return x.Gradient!.ToArray<float>();
    }

    private Tensor Values(Random random, int length) => Tensor.From(Enumerable.Range(0, length).Select(_ => random.NextSingle() + 0.5f).ToArray(), length).To(device);

    private sealed class Product(Tensor factor, HostStore? store) : Function
    {
        private Tensor _factor = factor;

        public static Tensor Apply(Tensor x, Tensor factor, HostStore? store) => new Product(factor, store).Apply(x)[0];

        protected override Tensor[] Forward(Tensor[] inputs)
        {
            var result = inputs[0] * _factor;
            _factor = Save(_factor, store);
            return [result];
        }

        protected override Tensor?[] Backward(Tensor?[] outputGradients)
        {
            using var other = Tensor.Full(outputGradients[0]!.Shape, double.NaN, device: outputGradients[0]!.Device);
            return [outputGradients[0]! * _factor];
        }
    }
}

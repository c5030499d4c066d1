using Moe.Models;
using Moe.Torch;
using Moe.Torch.Kernels;
using Moe.Torch.Native;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

/// <summary>Norms of what a grouped product has made, which on some devices come from sums that the product left: they are those of the numbers as they now stand.</summary>
[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class NotedSquaresTests(Device device) : KernelTests(device)
{
    [Test]
    public void Norms_of_a_product_and_its_parts([Values("700 0 1300 1", "3 0 5", "0 9", "0 0")] string lengths, [Values(512, 264, 1024, 40)] int inner, [Values(256, 520)] int outer)
    {
        var product = Product(lengths, inner, outer, 1);
        var whole = product.Size(0);
        List<Tensor> parts = [product, product.Narrow(0, 1, whole - 1)];
        for (var group = 0; group < whole; group++)
        {
            var matrix = product.Select(0, group);
            parts.AddRange([matrix, matrix.Narrow(0, 0, inner / 2), matrix.Narrow(0, inner / 2, inner - inner / 2), matrix.Narrow(0, 1, inner - 1), matrix.Narrow(0, 8, 17)]);
        }

        MustHaveTheirNorms([.. parts]);
    }

    [Test]
    public void Norms_of_numbers_of_any_size([Values(1e-30, 1e-20, 1e-13, 1e17, 1e30)] double size) =>
        MustHaveTheirNorms(Product("300 0 40", 512, 264, size));

    [Test]
    public void Norms_of_what_is_not_finite_are_not([Values(double.NaN, double.PositiveInfinity)] double bad)
    {
        using var left = Normal(DType.BFloat16, 40, 256);
        left.Narrow(0, 7, 1).Narrow(1, 9, 1).Fill_(bad);
        var groups = new RowGroups(RowGroups.Of(5, 35).Offsets!.To(Place));
        var product = GroupedProduct.Matrices(left, Normal(DType.BFloat16, 40, 264), groups);
        var norms = MultiTensor.Norms([product, product.Select(0, 0), product.Select(0, 1)]);
        Assert.That(norms.Select(double.IsFinite), Is.EqualTo(new[] { false, true, false }));
    }

    [Test]
    public void Norms_follow_what_is_written_over_a_product()
    {
        var product = Product("300 0 40", 512, 264, 1);
        product.Multiply_(3);
        MustHaveTheirNorms(product, product.Select(0, 0));

        product = Product("300 0 40", 512, 264, 1);
        product.Select(0, 2).Narrow(0, 0, 256).Zero_();
        MustHaveTheirNorms(product, product.Select(0, 0), product.Select(0, 2));

        product = Product("300 0 40", 512, 264, 1);
        product.Add_(Product("300 0 40", 512, 264, 1));
        MustHaveTheirNorms(product);

        product = Product("300 0 40", 512, 264, 1);
        MultiTensor.Update(UpdateRule.ScaledSum, new[,] { { 0.5, 2.0 } }, [product], [Normal(DType.BFloat16, 3, 512, 264)]);
        MustHaveTheirNorms(product, product.Select(0, 1));

        product = Product("300 0 40", 512, 264, 1);
        LinearCrossEntropyKernel.Scale(product, Number(3), DType.BFloat16);
        MustHaveTheirNorms(product, product.Select(0, 2));

        product = Product("300 0 40", 512, 264, 1);
        var order = PairOrder.Of(Tensor.From([.. Enumerable.Range(0, 512).Select(i => (long)(i % 5))], 512, 1).To(Place), 5);
        order.SumInto(Normal(DType.BFloat16, 512, 264), null, product.Select(0, 1));
        MustHaveTheirNorms(product, product.Select(0, 1));
    }

    // Memory that was a product's, and is another tensor's.
    [Test]
    public void Norms_are_not_those_of_memory_that_was_given_back()
    {
        for (var time = 0; time < 20; time++)
        {
            Product("300 0 40", 512, 264, 1).Dispose();
            using var other = Normal(DType.BFloat16, 3, 512, 264);
            MustHaveTheirNorms(other, other.Select(0, 0));
        }
    }

    [Test]
    public void Norms_of_gradients_that_backward_left_or_added_to()
    {
        var (gateUp, down) = (Leaf(Normal(DType.BFloat16, 2, 512, 256)), Leaf(Normal(DType.BFloat16, 2, 256, 256)));
        for (var pass = 0; pass < 3; pass++)
        {
            Backward(gateUp, down);
            MustHaveTheirNorms(gateUp.Gradient!, gateUp.Gradient!.Select(0, 1), down.Gradient!);
        }
    }

    [Test]
    public void Norms_follow_a_captured_product_that_is_made_again()
    {
        if (!Place.IsCuda)
        {
            Assert.Ignore("work of a GPU alone is captured");
        }

        var groups = new RowGroups(RowGroups.Of(300, 0, 40).Offsets!.To(Place));
        var (left, right) = (Normal(DType.BFloat16, 340, 512), Normal(DType.BFloat16, 340, 264));
        using var before = GroupedProduct.Matrices(left, right, groups);
        Tensor? product = null;
        using var graph = CudaGraph.Capture(() => product = GroupedProduct.Matrices(left, right, groups));
        foreach (var size in new[] { 1.0, 100, 0.01 })
        {
            left.CopyFrom_(Normal(DType.BFloat16, 340, 512) * size);
            graph.Replay();
            MustHaveTheirNorms(product!, product!.Select(0, 0), product!.Select(0, 2).Narrow(0, 256, 256));
        }
    }

    // A copy by address is not counted: the norm stays that of the product, which says that nobody read its numbers again.
    [Test]
    public void On_Hopper_no_gradient_of_experts_is_read_for_its_norm()
    {
        if (!Place.IsCuda || CudaRuntime.Describe(Place).Capability != 90)
        {
            Assert.Ignore("products leave their squares on Hopper");
        }

        var (gateUp, down) = (Leaf(Normal(DType.BFloat16, 2, 512, 256)), Leaf(Normal(DType.BFloat16, 2, 256, 256)));
        Backward(gateUp, down);
        Tensor[] gradients = [gateUp.Gradient!, gateUp.Gradient!.Select(0, 1).Narrow(0, 256, 256), down.Gradient!.Select(0, 0)];
        var norms = MultiTensor.Norms(gradients);
        foreach (var gradient in new[] { gateUp.Gradient!, down.Gradient! })
        {
            using var other = gradient * 3;
            CudaRuntime.Synchronize();
            Abi.Check(Abi.CudaCopy(0, gradient.DataPointer, other.DataPointer, gradient.Count * gradient.DType.Size()));
            CudaRuntime.Synchronize();
        }

        Assert.That(MultiTensor.Norms(gradients), Is.EqualTo(norms), "of a build without MOE_HOPPER, or of gradients that were copied on their way");
    }

    private Tensor Number(double value) => Tensor.From([value]).To(DType.Float32).View([]).To(Place);

    private void Backward(Tensor gateUp, Tensor down)
    {
        var groups = new RowGroups(RowGroups.Of(100, 200).Offsets!.To(Place));
        var output = GroupedSwiGlu.Apply(Normal(DType.BFloat16, 300, 256), gateUp, down, groups);
        using var loss = (output * Normal(DType.BFloat16, 300, 256)).Sum();
        Autograd.Backward(loss);
    }

    private Tensor Product(string lengths, int inner, int outer, double size)
    {
        var counts = Array.ConvertAll(lengths.Split(' '), long.Parse);
        var groups = new RowGroups(RowGroups.Of(counts).Offsets!.To(Place));
        return GroupedProduct.Matrices(Normal(DType.BFloat16, counts.Sum(), inner) * size, Normal(DType.BFloat16, counts.Sum(), outer), groups);
    }

    private static void MustHaveTheirNorms(params Tensor[] tensors)
    {
        var expected = tensors.Select(tensor => Wide(tensor).Norm().Item()).ToArray();
        Assert.That(MultiTensor.Norms(tensors), Is.EqualTo(expected).Within(1e-4).Percent); // sums of 32 squares in float32
    }
}

using Moe.Models;
using Moe.Tests.Models;
using Moe.Torch;
using Moe.Torch.Kernels;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
public sealed class RmsNormTests(Device device) : ScopedTests
{
    private const double Epsilon = 1e-5;

    private static readonly DType[] Types = [DType.Float32, DType.Float64, DType.BFloat16];

    private static readonly long[][] Shapes = [[1, 1], [5, 7], [33, 64], [300, 128], [3, 2, 100], [1000, 17], [9, 2048], [5, 5001], [3, 16384], [0, 8]];

    [Test]
    public void Norm_equals_its_reference([ValueSource(nameof(Types))] DType dtype, [ValueSource(nameof(Shapes))] long[] shape)
    {
        var oracle = new KernelOracle(Random, device, dtype);
        oracle.AssertSame(
            x => [RmsNorm.Apply(x[0], x[1], Epsilon)],
            x => [RmsNorm.Reference(x[0], x[1], Epsilon)],
            [Rows(oracle, shape), oracle.Normal(dtype.Work(), shape[^1])],
            dtype,
            dtype.Work());
    }

    // The gradient of a row of one number is a difference of two terms of 1 / |x| that cancel: beside a small number their rounding is all that is left.
    private static Tensor Rows(KernelOracle oracle, long[] shape) => shape[^1] == 1 ? oracle.Normal(shape).Clamp(1, 4) : oracle.Normal(shape);

    [Test]
    public void Residual_norm_equals_its_reference([ValueSource(nameof(Types))] DType dtype, [ValueSource(nameof(Shapes))] long[] shape)
    {
        var oracle = new KernelOracle(Random, device, dtype);
        oracle.AssertSame(
            x => ResidualNorm.Apply(x[0], x[1], x[2], Epsilon) is var (sum, normed) ? [sum, normed] : [],
            x => ResidualNorm.Reference(x[0], x[1], x[2], Epsilon) is var (sum, normed) ? [sum, normed] : [],
            [Rows(oracle, shape), Rows(oracle, shape), oracle.Normal(dtype.Work(), shape[^1])],
            dtype,
            dtype,
            dtype.Work());
    }

    [Test]
    public void Either_output_of_a_residual_norm_may_go_unused([ValueSource(nameof(Types))] DType dtype, [Values(0, 1)] int used)
    {
        var oracle = new KernelOracle(Random, device, dtype);
        oracle.AssertSame(
            x => [Pick(ResidualNorm.Apply(x[0], x[1], x[2], Epsilon))],
            x => [Pick(ResidualNorm.Reference(x[0], x[1], x[2], Epsilon)) + x[2].Sum() * 0],
            [oracle.Normal(6, 40), oracle.Normal(6, 40), oracle.Normal(dtype.Work(), 40)],
            dtype,
            dtype,
            dtype.Work());

        Tensor Pick((Tensor Sum, Tensor Normed) outputs) => used == 0 ? outputs.Sum : outputs.Normed;
    }

    [Test]
    public void A_weight_in_bfloat16_is_worked_in_float32()
    {
        var oracle = new KernelOracle(Random, device, DType.BFloat16);
        oracle.AssertSame(
            x => [RmsNorm.Apply(x[0], x[1], Epsilon)], x => [RmsNorm.Reference(x[0], x[1], Epsilon)], [oracle.Normal(70, 96), oracle.Normal(96)]);
    }

    [Test]
    public void Rows_at_an_odd_address_are_normed_too([ValueSource(nameof(Types))] DType dtype)
    {
        var oracle = new KernelOracle(Random, device, dtype);
        oracle.AssertSame(
            x => [RmsNorm.Apply(x[0].Narrow(0, 1, 64 * 5).View(5, 64), x[1], Epsilon)],
            x => [RmsNorm.Reference(x[0].Narrow(0, 1, 64 * 5).View(5, 64), x[1], Epsilon)],
            [oracle.Normal(64 * 5 + 1), oracle.Normal(dtype.Work(), 64)],
            dtype,
            dtype.Work());
    }

    [Test]
    public void The_weights_gradient_has_the_same_bits_each_time([ValueSource(nameof(Types))] DType dtype)
    {
        var x = Random.Normal([2000, 96], 1, dtype).To(device);
        var seed = Random.Normal([2000, 96], 1, dtype).To(device);
        var first = Gradient();
        Assert.That(Gradient(), Is.EqualTo(first));

        double[] Gradient()
        {
            var weight = Tensor.Ones([96], dtype.Work(), device);
            var (_, inverse) = RmsNormKernel.Forward(x, weight, Epsilon);
            return RmsNormKernel.Backward(seed, null, x, weight, inverse, false, true).Weight!.To(DType.Float64).ToArray<double>();
        }
    }

    [Test]
    public void A_weight_of_another_length_is_refused() =>
        Assert.That(
            () => RmsNorm.Apply(Tensor.Zeros([3, 8], device: device), Tensor.Ones([7], device: device), Epsilon),
            Throws.TypeOf<TorchException>().With.Message.Contains("the norm's weight").And.Message.Contains("[8]").And.Message.Contains("[7]"));
}

using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

/// <summary>
/// A fixture of kernels on one device, on one to three threads of the host: inputs are fresh random numbers, references are computed in float64 on the host from what the device's type
/// makes of them, and memory that a kernel forgets to write is NaN.
/// </summary>
public abstract class KernelTests(Device device)
{
    private const int Few = 64;

    private TensorScope _scope = null!;
    private int _threads;

    internal static DType[] Types => [DType.Float64, DType.Float32, DType.BFloat16];

    internal Device Place => device;

    internal Random Random { get; private set; } = null!;

    [SetUp]
    public void Open()
    {
        _scope = new TensorScope();
        Random = FreshRandom.Create();
        _threads = TorchRuntime.Threads;
        TorchRuntime.Threads = Random.Next(1, 4);
        using var scope = new TensorScope();
        for (var size = 1; size <= 1 << 16; size *= 2)
        {
            Tensor.Full([size], double.NaN, DType.Float64, device);
            Tensor.Full([size], double.NaN, DType.Float64, device);
        }
    }

    [TearDown]
    public void Close()
    {
        TorchRuntime.Threads = _threads;
        _scope.Dispose();
    }

    /// <summary>The same number in float64 on the host: what a reference is computed from.</summary>
    internal static Tensor Wide(Tensor values) => values.Detach().To(Device.Cpu).To(DType.Float64).Clone();

    /// <summary>Every number is the same, and a NaN where one is expected.</summary>
    internal static void MustHaveTheBits(Tensor actual, Tensor expected) => Assert.That(Wide(actual).ToArray<double>(), Is.EqualTo(Wide(expected).ToArray<double>()));

    /// <summary>Normal numbers, rounded to the type.</summary>
    internal Tensor Normal(DType type, params long[] shape)
    {
        var values = new double[shape.Aggregate(1L, (count, length) => count * length)];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = Math.Sqrt(-2 * Math.Log(1 - Random.NextDouble())) * Math.Cos(2 * Math.PI * Random.NextDouble());
        }

        return Tensor.From(values).View(shape).To(type).To(device);
    }

    /// <summary>The same numbers where no access of 16 bytes can start.</summary>
    internal static Tensor AtOddAddress(Tensor values)
    {
        var place = values.NewEmpty([values.Count + 1]).Narrow(0, 1, values.Count).View(values.Shape.ToArray());
        return place.CopyFrom_(values);
    }

    /// <summary>Norm of the difference over the norm, at most 1e-13 in float64, 1e-5 in float32 and 1e-2 in bfloat16.</summary>
    /// <param name="actual">What the kernel made.</param>
    /// <param name="expected">What it should be.</param>
    /// <param name="what">Its name.</param>
    /// <param name="precision">Type that it was computed in, where that is not its own.</param>
    /// <param name="magnitudes">
    /// The same sums of the terms' absolute values. They count where results are so few that all of them may happen to cancel: then nothing is left of the norm, but
    /// the terms' rounding is. Of many results they are the looser bound, by the root of the number of terms, and let a kernel forget some of these.
    /// </param>
    /// <remarks>Inputs are around 1: what cancels to less than a tenth of that is judged by them, whose rounding is left of it.</remarks>
    internal static void MustBeClose(Tensor actual, Tensor expected, string what, DType? precision = null, Tensor? magnitudes = null)
    {
        var bound = (precision ?? actual.DType) switch { DType.Float64 => 1e-13, DType.Float32 => 1e-5, _ => 1e-2 };
        Assert.That(actual.Shape, Is.EqualTo(expected.Shape), what);
        if (expected.Count > 0)
        {
            var error = (Wide(actual) - Wide(expected)).Norm().Item();
            var scale = expected.Count < Few && magnitudes is not null ? magnitudes : expected;
            Assert.That(error, Is.AtMost(bound * Math.Max(0.1, Wide(scale).Norm().Item())), what); // also of NaN
        }
    }

    internal static Tensor Leaf(Tensor values)
    {
        values.RequiresGrad = true;
        return values;
    }
}

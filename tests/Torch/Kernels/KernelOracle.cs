using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch.Kernels;

/// <summary>A kernel on a device and in a type, against its reference by recorded operators in float64 on the host: results and all gradients.</summary>
/// <param name="random">Where inputs and arriving gradients come from.</param>
/// <param name="device">Where the kernel runs.</param>
/// <param name="dtype">In what it runs.</param>
internal sealed class KernelOracle(Random random, Device device, DType dtype)
{
    /// <summary>Norm of the difference over the norm of what is expected, at most.</summary>
    internal double Tolerance => dtype switch
    {
        DType.Float64 => 1e-12,
        DType.Float32 => 1e-5,
        _ => 1e-2,
    };

    internal DType DType => dtype;

    /// <summary>Normal numbers in float64 that the type holds exactly.</summary>
    internal Tensor Normal(params long[] shape) => Normal(dtype, shape);

    /// <summary>Normal numbers in float64 that another type holds exactly.</summary>
    internal Tensor Normal(DType other, params long[] shape) => Models.Oracle.Normal(random, shape).To(other).To(DType.Float64);

    /// <summary>Results and gradients agree, for random gradients of the results.</summary>
    /// <param name="actual">The kernel, of the inputs on its device.</param>
    /// <param name="expected">The reference, of the same in float64.</param>
    /// <param name="inputs">In float64 on the host.</param>
    /// <param name="types">That of each input for the kernel; the oracle's where left out.</param>
    internal void AssertSame(Func<Tensor[], Tensor[]> actual, Func<Tensor[], Tensor[]> expected, Tensor[] inputs, params DType[] types)
    {
        var narrow = inputs.Select((x, i) => Leaf(x.Clone().To(i < types.Length ? types[i] : dtype).To(device))).ToArray();
        var wide = Array.ConvertAll(inputs, x => Leaf(x.Clone()));
        PoisonFreedMemory();
        var (results, references) = (actual(narrow), expected(wide));
        for (var i = 0; i < results.Length; i++)
        {
            MustBeNear(results[i], references[i], $"result {i}");
        }

        var seeds = Array.ConvertAll(results, result => Models.Oracle.Normal(random, result.Shape).To(result.DType));
        PoisonFreedMemory();
        Autograd.Backward(results, Array.ConvertAll(seeds, seed => seed.To(device)));
        Autograd.Backward(references, Array.ConvertAll(seeds, seed => seed.To(DType.Float64)));
        for (var i = 0; i < inputs.Length; i++)
        {
            // A gradient that is missing is one of zeros.
            var wanted = wide[i].Gradient!;
            MustBeNear(narrow[i].Gradient ?? wanted.NewZeros(wanted.Shape), wanted, $"gradient of input {i}");
        }
    }

    internal void MustBeNear(Tensor actual, Tensor expected, string what)
    {
        Assert.That(actual.Shape, Is.EqualTo(expected.Shape), what);
        var (found, wanted) = (actual.Detach().To(Device.Cpu).To(DType.Float64), expected.Detach().To(DType.Float64));
        var error = (found - wanted).Norm().Item();

        // What cancels to next to nothing is judged by the numbers that it came from: they are around 1.
        Assert.That(error, Is.AtMost(Tolerance * Math.Max(wanted.Norm().Item(), 0.1)), $"{what} in {dtype}");
    }

    // An allocator gives back what was freed last: whatever a kernel leaves unwritten shows as NaN.
    private void PoisonFreedMemory()
    {
        foreach (var bytes in new[] { 1 << 8, 1 << 12, 1 << 16, 1 << 20 })
        {
            using var scope = new TensorScope();
            for (var i = 0; i < 8; i++)
            {
                Tensor.Full([bytes / 4], double.NaN, DType.Float32, device);
            }
        }
    }

    private static Tensor Leaf(Tensor x)
    {
        x.RequiresGrad = true;
        return x;
    }
}

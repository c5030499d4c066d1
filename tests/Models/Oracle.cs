using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

/// <summary>Random inputs, and the comparison of an operation with its reference: results and the gradients of all inputs.</summary>
internal static class Oracle
{
    internal static Tensor Normal(this Random random, ReadOnlySpan<long> shape, double scale = 1, DType dtype = DType.Float64)
    {
        var values = new double[Tensor.Empty(shape).Count];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = scale * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
        }

        return Tensor.From(values).View(shape.ToArray()).To(dtype);
    }

    internal static Tensor Tokens(this Random random, long sequences, long length, int vocabulary)
    {
        var values = new long[sequences * length];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = random.Next(vocabulary);
        }

        return Tensor.From((ReadOnlySpan<long>)values, sequences, length);
    }

    internal static Tensor Leaf(this Tensor x)
    {
        x.RequiresGrad = true;
        return x;
    }

    /// <summary>Largest difference, relative to the larger of 1 and the largest expected magnitude.</summary>
    internal static double Difference(Tensor actual, Tensor expected)
    {
        Assert.That(actual.Shape, Is.EqualTo(expected.Shape));
        if (expected.Count == 0)
        {
            return 0;
        }

        var wide = expected.Detach().To(DType.Float64);
        return (actual.Detach().To(DType.Float64) - wide).Abs().Max().Item() / Math.Max(1, wide.Abs().Max().Item());
    }

    /// <summary>Results and gradients of both forms agree, for a random gradient of the result.</summary>
    internal static void AssertSame(
        Random random, Func<Tensor[], Tensor> actual, Func<Tensor[], Tensor> expected, Tensor[] inputs, double tolerance = 1e-10)
    {
        var (left, right) = (Array.ConvertAll(inputs, x => x.Clone().Leaf()), Array.ConvertAll(inputs, x => x.Clone().Leaf()));
        var (result, reference) = (actual(left), expected(right));
        Assert.That(Difference(result, reference), Is.LessThan(tolerance), "result");
        var seed = random.Normal(reference.Shape, 1, reference.DType);
        Autograd.Backward(result, seed);
        Autograd.Backward(reference, seed);
        for (var i = 0; i < inputs.Length; i++)
        {
            Assert.That(Difference(left[i].Gradient!, right[i].Gradient!), Is.LessThan(tolerance), $"gradient of input {i}");
        }
    }
}

using Moe.Models;
using Moe.Torch;

namespace Moe.Training.Benchmarks;

/// <summary>The kernels of a dense linear layer: its product, the products of its gradients, and the rounding of its weight where that is stored wider.</summary>
/// <param name="shapes">Of the rank.</param>
/// <param name="random">Makes the inputs.</param>
internal sealed class LinearKernels(KernelShapes shapes, RandomInputs random)
{
    private const double WeightDeviation = 0.02;

    /// <summary>x [R, I] times the transpose of w [O, I], forward and both gradients.</summary>
    /// <param name="name">Of the layer.</param>
    /// <param name="rows">R.</param>
    /// <param name="outputs">O.</param>
    /// <param name="inputs">I.</param>
    /// <param name="calls">Of a step.</param>
    public IEnumerable<KernelBenchmark> Products(string name, long rows, long outputs, long inputs, double calls)
    {
        var shape = FormattableString.Invariant($"[{rows}, {inputs}] x [{outputs}, {inputs}]");
        var bytes = shapes.Size * ((rows * inputs) + (outputs * inputs) + (rows * outputs));
        var operations = 2.0 * rows * outputs * inputs;
        yield return new KernelBenchmark(name, shape, KernelPass.Forward, bytes, operations, () =>
        {
            var (x, weight) = (X(), Weight());
            return new KernelCall(() => Projection.Product(x, weight));
        })
        { CallsPerStep = calls };
        yield return new KernelBenchmark($"{name}: rows", shape, KernelPass.Backward, bytes, operations, () =>
        {
            var (arriving, weight) = (Y(), Weight());
            return new KernelCall(() => Projection.RowGradients(arriving, weight));
        })
        { CallsPerStep = calls };
        yield return new KernelBenchmark($"{name}: weight", shape, KernelPass.Backward, bytes, operations, () =>
        {
            var (arriving, x) = (Y(), X());
            return new KernelCall(() => Projection.WeightGradient(arriving, x));
        })
        { CallsPerStep = calls };

        Tensor X() => random.Normal([rows, inputs], shapes.Type);
        Tensor Y() => random.Normal([rows, outputs], shapes.Type);
        Tensor Weight() => random.Normal([outputs, inputs], shapes.Type, WeightDeviation);
    }

    /// <summary>Weights that are stored wider than products want them, rounded, and their gradients on the way back; nothing where they are not.</summary>
    /// <param name="name">Of what they belong to.</param>
    /// <param name="weights">How many.</param>
    /// <param name="calls">Of a step.</param>
    public IEnumerable<KernelBenchmark> Casts(string name, long weights, double calls)
    {
        if (shapes.Stored == shapes.Type)
        {
            yield break;
        }

        var shape = FormattableString.Invariant($"[{weights}]");
        var bytes = weights * (shapes.Stored.Size() + shapes.Size);
        foreach (var (pass, from, to) in new[] { (KernelPass.Forward, shapes.Stored, shapes.Type), (KernelPass.Backward, shapes.Type, shapes.Stored) })
        {
            yield return new KernelBenchmark($"{name}: rounding", shape, pass, bytes, 0, () =>
            {
                var weight = random.Normal([weights], from);
                return new KernelCall(() => weight.To(to));
            })
            { CallsPerStep = calls };
        }
    }
}

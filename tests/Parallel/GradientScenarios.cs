using System.Globalization;
using Moe.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>What the ranks of <see cref="GradientReductionTests"/> do.</summary>
internal static class GradientScenarios
{
    private static readonly long[][] Shapes = [[3, 5], [7], [2, 4, 3], [2, 6], [1]];

    /// <summary>Arguments: seed, expert-parallel ranks.</summary>
    public static void ReduceByTheRecord(ProcessGroup world, string[] arguments)
    {
        var seed = int.Parse(arguments[0], CultureInfo.InvariantCulture);
        using var mesh = new DeviceMesh(world, int.Parse(arguments[1], CultureInfo.InvariantCulture));
        foreach (var (type, tolerance) in new[] { (DType.Float64, 1e-12), (DType.Float32, 1e-6), (DType.BFloat16, 1e-6) })
        {
            using var scope = new TensorScope();
            var inOne = Reduced(seed, mesh, type, bucketBytes: 1 << 20, out var norm);
            var inMany = Reduced(seed, mesh, type, bucketBytes: 16, out var sameNorm);
            Assert.That(inMany, Is.EqualTo(inOne), "buckets change nothing");
            var expected = Expected(seed, mesh, type, mesh.ExpertRank);
            for (var i = 0; i < Shapes.Length; i++)
            {
                DispatchRun.MustBeClose(inOne[i], expected[i], tolerance, $"parameter {i} in {type}");
            }

            Assert.That(norm, Is.EqualTo(ExpectedNorm(seed, mesh, type)).Within(100 * tolerance).Percent);
            Assert.That(sameNorm, Is.EqualTo(norm).Within(1e-10).Percent);
            Assert.That(AllRanks(world, norm), Is.All.EqualTo(norm), "the same bits on every rank");
        }
    }

    /// <summary>Experts of norms sqrt(20) and sqrt(100) on two expert ranks; replicas, where there are any, hold them in parts.</summary>
    public static void GoldenNorm(ProcessGroup world)
    {
        using var mesh = new DeviceMesh(world, 2);
        using var scope = new TensorScope();
        var parameter = new Parameter("experts", Tensor.Zeros([1, 1, 2]).Here(), ParameterKind.Expert, [mesh.ExpertRank]);
        using var reduction = new GradientReduction([parameter], mesh);
        double[] gradient = mesh.ExpertRank == 0 ? [2, 4] : [6, 8];
        parameter.Value.Gradient = Tensor.From(gradient, 1, 1, 2).To(DType.Float32).Here() * (1.0 / mesh.Replica.Size);
        reduction.Reduce(1);
        var norm = reduction.MeasureNorm();
        Assert.That(norm.Norm, Is.EqualTo(10.954452).Within(1e-6)); // sqrt(120), as it was printed in float32

        norm.Clip(20);
        Assert.That(reduction.MeasureNorm().Norm, Is.EqualTo(norm.Norm), "a norm below the limit stays");
        norm.Clip(1);
        Assert.That(reduction.MeasureNorm().Norm, Is.EqualTo(1).Within(1e-6));
        Assert.That(parameter.Value.Gradient!.ToArray<float>(), Is.EqualTo(gradient.Select(g => g / Math.Sqrt(120))).Within(1e-6));
    }

    /// <summary>Gradients that backward has left behind are added up while it goes on, in the step's last one alone; the sums are the same.</summary>
    public static void StartUnderBackward(ProcessGroup world)
    {
        using var mesh = new DeviceMesh(world, 1);
        using var scope = new TensorScope();
        Parameter[] parameters =
        [
            new("embedding", Tensor.Zeros([4]).Here(), ParameterKind.Embedding),
            .. Enumerable.Range(0, 2).Select(layer => new Parameter($"layers.{layer}.w", Tensor.Zeros([4]).Here(), ParameterKind.Matrix)),
            new("head", Tensor.Zeros([4]).Here(), ParameterKind.Head),
        ];
        using var reduction = new GradientReduction(parameters, mesh, new() { BucketBytes = 16 });
        foreach (var early in new[] { true, false, true })
        {
            reduction.Zero();
            world.Trace.ResetTotals();
            if (early)
            {
                reduction.ExpectLastBackward();
            }

            List<long> calls = [];
            foreach (var (parameter, layer) in parameters.Reverse().Zip([2, 1, 0, (int?)null]))
            {
                Autograd.Backward(parameter.Value, Tensor.Full([4], world.Rank + 1).Here());
                if (layer is { } left)
                {
                    reduction.LayerLeft(left);
                    calls.Add(world.Trace.Totals(Collective.AllReduce).Calls);
                }
            }

            reduction.Reduce(0.5);
            Assert.That(calls, Is.EqualTo(early ? [1, 2, 3] : new[] { 0, 0, 0 }));
            Assert.That(world.Trace.Totals(Collective.AllReduce).Calls, Is.EqualTo(4), "each once");
            var sum = 0.5 * world.Size * (world.Size + 1) / 2;
            foreach (var parameter in parameters)
            {
                Assert.That(parameter.Value.Gradient!.ToArray<float>(), Is.All.EqualTo(sum), parameter.Name);
            }
        }
    }

    /// <summary>One NaN in one expert of one rank.</summary>
    public static void FindNotFinite(ProcessGroup world)
    {
        using var mesh = new DeviceMesh(world, world.Size);
        using var scope = new TensorScope();
        var dense = new Parameter("dense", Tensor.Zeros([4]).Here(), ParameterKind.Matrix);
        var experts = new Parameter("experts", Tensor.Zeros([1, 2, 2]).Here(), ParameterKind.Expert, [mesh.ExpertRank]);
        using var reduction = new GradientReduction([dense, experts], mesh);
        experts.Value.Gradient = Tensor.Full([1, 2, 2], world.Rank == 1 ? double.NaN : 1).Here();
        reduction.Reduce(1);
        var norm = reduction.MeasureNorm();
        Assert.That(norm.IsFinite, Is.False);
        Assert.That(norm.FirstNotFinite(), Is.EqualTo("1.experts"));
        Assert.That(() => norm.Clip(1), Throws.InvalidOperationException);
    }

    private static double[][] Reduced(int seed, DeviceMesh mesh, DType type, long bucketBytes, out double norm)
    {
        var own = Gradients(seed, mesh.World.Rank, type);
        Parameter[] parameters = [.. Shapes.Select((shape, i) => new Parameter(
            $"p{i}",
            Tensor.Zeros(shape, type).Here(),
            IsExpert(shape) ? ParameterKind.Expert : ParameterKind.Matrix,
            IsExpert(shape) ? [2 * mesh.ExpertRank, (2 * mesh.ExpertRank) + 1] : null))];
        using var reduction = new GradientReduction(parameters, mesh, new() { BucketBytes = bucketBytes });
        reduction.Zero();
        for (var i = 0; i < parameters.Length; i++)
        {
            // By backward where there is a gradient at all; a rank without one leaves its zeros.
            if (own[i] is { } gradient)
            {
                Autograd.Backward(parameters[i].Value, Tensor.From(gradient, Shapes[i]).To(type).Here());
            }
        }

        reduction.Reduce(0.125);
        norm = reduction.MeasureNorm().Norm;
        return [.. parameters.Select(parameter => parameter.Value.Gradient!.To(DType.Float64).ToArray<double>())];
    }

    private static double[][] Expected(int seed, DeviceMesh mesh, DType type, int expertRank)
    {
        var ranks = Enumerable.Range(0, mesh.World.Size).Select(rank => (Rank: rank, Gradients: Gradients(seed, rank, type))).ToArray();
        return [.. Shapes.Select((shape, i) => ranks
            .Where(rank => !IsExpert(shape) || rank.Rank % mesh.Expert.Size == expertRank)
            .Select(rank => rank.Gradients[i])
            .Where(gradient => gradient is not null)
            .Aggregate(new double[Count(shape)], (sum, gradient) => [.. sum.Zip(gradient!, (x, y) => x + (0.125 * y))]))];
    }

    private static double ExpectedNorm(int seed, DeviceMesh mesh, DType type) => Math.Sqrt(
        Enumerable.Range(0, mesh.Expert.Size).Sum(expertRank => Expected(seed, mesh, type, expertRank)
            .Where((_, i) => expertRank == 0 || IsExpert(Shapes[i]))
            .SelectMany(gradient => gradient)
            .Sum(g => g * g)));

    // Rank 0 has no gradient for the third parameter, which are experts; no rank has one for the last.
    private static double[]?[] Gradients(int seed, int rank, DType type)
    {
        var random = new Random(seed + rank);
        return [.. Shapes.Select((shape, i) => (i == 2 && rank == 0) || i == Shapes.Length - 1
            ? null
            : Rounded(Enumerable.Range(0, Count(shape)).Select(_ => (2 * random.NextDouble()) - 1), type))];
    }

    private static double[] Rounded(IEnumerable<double> values, DType type)
    {
        using var exact = Tensor.From([.. values]);
        using var rounded = exact.To(type);
        using var again = rounded.To(DType.Float64);
        return again.ToArray<double>();
    }

    private static double[] AllRanks(ProcessGroup world, double value)
    {
        using var own = Tensor.From([value], 1);
        using var all = Tensor.Empty([world.Size], DType.Float64);
        world.AllGather(all, own);
        return all.ToArray<double>();
    }

    private static bool IsExpert(long[] shape) => shape.Length == 3;

    private static int Count(long[] shape) => (int)shape.Aggregate(1L, (product, length) => product * length);
}

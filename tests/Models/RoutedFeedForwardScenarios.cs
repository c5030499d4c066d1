using System.Globalization;
using Moe.Distributed;
using Moe.Models;
using Moe.Tests.Distributed;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Models;

/// <summary>What the ranks of <see cref="RoutedFeedForwardTests"/> do.</summary>
internal static class RoutedFeedForwardScenarios
{
    private const int Width = 6;
    private const int Layer = 3;

    /// <summary>One function over chunks and blocks against three functions one after another, on layers of every kind; the argument is a seed.</summary>
    public static void CompareWithStepwise(ProcessGroup world, string[] arguments)
    {
        var random = Draw(world, arguments);
        var moe = new MoeOptions { Experts = 2 * world.Size, TopK = Math.Min(3, 2 * world.Size), ExpertWidth = 4 };
        using var mesh = new DeviceMesh(world, world.Size) { RanksPerNode = 2 };
        MoeOptions[] variants = [moe, moe with { SharedExperts = 2, RoutedScale = 1.7 }, moe with { TopK = 1, CapacityFactor = 0.6 }];
        foreach (var options in variants)
        {
            using var scope = new TensorScope();
            foreach (var tokens in (int[])[random.Next(1, 30), world.Rank == 0 ? 0 : 7, 0])
            {
                var x = random.Normal([tokens, Width]).Here();
                var expected = LayerRun.Of(world, options, x, new AllGatherDispatcher(world, options.Experts), isStepwise: true);
                foreach (var (chunks, free) in Ways(options))
                {
                    var dispatcher = new AllToAllDispatcher(world, options.Experts) { Chunks = chunks, FreeBytes = free };
                    var what = $"{options}, {tokens} tokens, {chunks} chunks, {(free is null ? "no limit" : "a limit")}";
                    LayerRun.Of(world, options, x, dispatcher).MustBe(expected, 1e-12, what);
                    LayerRun.Of(world, options, x, dispatcher, isStepwise: true).MustBe(expected, 1e-12, $"{what}, stepwise");
                    if (mesh.HasExpertNodes)
                    {
                        var overNodes = new TwoLevelDispatcher(mesh.ExpertNodes(), options.Experts) { Chunks = chunks, FreeBytes = free };
                        LayerRun.Of(world, options, x, overNodes).MustBe(expected, 1e-12, $"{what}, over nodes");
                    }
                }
            }
        }
    }

    /// <summary>What cutting changes, and what it costs in exchanges; the argument is a seed.</summary>
    public static void CutIntoChunks(ProcessGroup world, string[] arguments)
    {
        CompareChunks(world, arguments);
        CountExchanges(world);
    }

    /// <summary>Outputs and gradients differ by the rounding of products over another number of rows.</summary>
    private static void CompareChunks(ProcessGroup world, string[] arguments)
    {
        using var scope = new TensorScope();
        var random = Draw(world, arguments);
        var options = new MoeOptions { Experts = 2 * world.Size, TopK = 2, ExpertWidth = 40, SharedExperts = 1 };
        foreach (var type in (DType[])[DType.Float32, DType.BFloat16])
        {
            var x = random.Normal([64, Width], 1, type).Here();
            var whole = LayerRun.Of(world, options, x, new AllToAllDispatcher(world, options.Experts));
            for (var chunks = 2; chunks <= 4; chunks++)
            {
                var cut = LayerRun.Of(world, options, x, new AllToAllDispatcher(world, options.Experts) { Chunks = chunks });
                cut.MustBe(whole, type == DType.Float32 ? 1e-6 : 0.02, $"{type}, {chunks} chunks");
                Assert.That(Oracle.Difference(cut.Output, whole.Output), Is.LessThanOrEqualTo(type == DType.Float32 ? 2.5e-7 : 0.008), $"{type}, {chunks} chunks");
            }
        }
    }

    /// <summary>Where memory is short on some ranks, these alone do more work, and the results stay; the argument is a seed.</summary>
    public static void WorkInBlocks(ProcessGroup world, string[] arguments)
    {
        using var scope = new TensorScope();
        var random = Draw(world, arguments);
        var options = new MoeOptions { Experts = world.Size, TopK = 1, ExpertWidth = 64 };
        var x = random.Normal([200, Width]).Here();
        var free = long.MaxValue;
        var dispatcher = new AllToAllDispatcher(world, options.Experts) { FreeBytes = () => free };
        var routing = new Func<Tensor, Tensor>(ids => ids.NewZeros(ids.Shape)); // all to the first expert
        var expected = LayerRun.Of(world, options, x, dispatcher, route: routing);
        var calls = Operator.Calls;
        LayerRun.Of(world, options, x, dispatcher, route: routing).MustBe(expected, 0, "again");
        calls = Operator.Calls - calls;

        free = 700_000; // of 200 rows a rank about 9,000 bytes each
        var limited = Operator.Calls;
        LayerRun.Of(world, options, x, dispatcher, route: routing).MustBe(expected, 1e-12, "in blocks");
        limited = Operator.Calls - limited;
        Assert.That(limited - calls, world.Rank == 0 ? Is.GreaterThan(50) : Is.Zero, "operators more than without a limit");
    }

    /// <summary>All tokens want one rank's expert, which has no memory for them.</summary>
    public static void HasNoMemory(ProcessGroup world)
    {
        using var scope = new TensorScope();
        var options = new MoeOptions { Experts = world.Size, TopK = 1, ExpertWidth = 64 };
        var dispatcher = new AllToAllDispatcher(world, options.Experts) { FreeBytes = () => world.Rank == 1 ? 100_000 : long.MaxValue };
        world.Trace.Layer = Layer;
        try
        {
            LayerRun.Of(world, options, Tensor.Ones([200, Width], DType.Float64).Here(), dispatcher, route: ids => ids.NewZeros(ids.Shape).Fill_(1));
        }
        catch (ExpertMemoryException)
        {
            Assert.That(world.Trace.Totals(Collective.AllToAll).Calls, Is.EqualTo(1), "sizes alone have moved");
            throw;
        }
    }

    /// <summary>However many chunks: one exchange of sizes, and four of rows a chunk.</summary>
    private static void CountExchanges(ProcessGroup world)
    {
        using var scope = new TensorScope();
        var options = new MoeOptions { Experts = world.Size, TopK = 1, ExpertWidth = 4, SharedExperts = 1 };
        var before = Tensor.LiveCount;
        for (var chunks = 1; chunks <= 3; chunks++)
        {
            using (var inner = new TensorScope())
            {
                world.Trace.ResetTotals();
                LayerRun.Of(world, options, Tensor.Ones([9, Width], DType.Float64).Here(), new AllToAllDispatcher(world, options.Experts) { Chunks = chunks });
                Assert.That(world.Trace.Totals(Collective.AllToAll).Calls, Is.EqualTo(1 + (4 * chunks)));
            }

            Assert.That(Tensor.LiveCount, Is.EqualTo(before), $"tensors after {chunks} chunks");
        }
    }

    // Every rank of its own tokens.
    private static Random Draw(ProcessGroup world, string[] arguments) => new(int.Parse(arguments[0], CultureInfo.InvariantCulture) + world.Rank);

    private static IEnumerable<(int Chunks, Func<long>? Free)> Ways(MoeOptions options)
    {
        // A limit that lets the smallest blocks pass but not the whole.
        var shape = new ExpertShape(Width, options.ExpertWidth, options.TopK, 2, DType.Float64);
        var little = (long)(shape.BytesOfMatrices(3) + (200 * shape.BytesOfBlockRow));
        yield return (1, null);
        yield return (2, null);
        yield return (5, null);
        yield return (1, () => little);
        yield return (31, null); // more than tokens
    }

    /// <summary>A layer's output and all gradients.</summary>
    private sealed record LayerRun(Tensor Output, Tensor OfX, IReadOnlyList<(string Name, Tensor Gradient)> OfParameters)
    {
        public static LayerRun Of(
            ProcessGroup world, MoeOptions options, Tensor x, TokenDispatcher dispatcher, bool isStepwise = false, Func<Tensor, Tensor>? route = null)
        {
            var initializer = new ParameterInitializer(11, x.DType == DType.BFloat16 ? DType.Float32 : x.DType, x.Device);
            var shape = new TransformerOptions
            {
                Layers = 1,
                Width = Width,
                Heads = 1,
                KeyValueHeads = 1,
                HeadWidth = 2,
                SequenceLength = 1,
                Vocabulary = 2,
                InitStd = 0.8,
                Moe = options,
            };
            using var layer = new MoeFeedForward("layers.3.moe", shape, dispatcher, initializer);
            var leaf = x.Clone().Leaf();
            var routing = layer.Route(leaf, new Batch(Length: 1, 1, 1));
            routing = route is null ? routing : routing with { ExpertIds = route(routing.ExpertIds) };
            var output = isStepwise ? layer.ForwardStepwise(leaf, routing) : layer.Forward(leaf, routing);
            Autograd.Backward(output, (Tensor.Arange(output.Count).To(DType.Float64) * 0.01).View(output.Shape).To(output.DType).To(output.Device));
            var run = new LayerRun(
                output.Detach(), leaf.Gradient!, [.. initializer.Parameters.Select(parameter => (parameter.Name, parameter.Value.Gradient!))]);
            foreach (var parameter in initializer.Parameters)
            {
                parameter.Value.Dispose();
            }

            return run;
        }

        public void MustBe(LayerRun expected, double tolerance, string what)
        {
            Assert.That(Oracle.Difference(Output, expected.Output), Is.LessThanOrEqualTo(tolerance), $"{what}: output");
            Assert.That(Oracle.Difference(OfX, expected.OfX), Is.LessThanOrEqualTo(tolerance), $"{what}: x");
            foreach (var (own, other) in OfParameters.Zip(expected.OfParameters))
            {
                Assert.That(Oracle.Difference(own.Gradient, other.Gradient), Is.LessThanOrEqualTo(tolerance), $"{what}: {own.Name}");
            }
        }
    }
}

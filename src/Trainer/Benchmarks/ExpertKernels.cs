using Moe.Distributed;
using Moe.Torch;

namespace Moe.Training.Benchmarks;

/// <summary>The feed-forward parts of the model: routed experts on as many rows as really come to this rank's, shared experts, dense layers.</summary>
internal static class ExpertKernels
{
    /// <summary>All kernels. Every rank calls this at the same time.</summary>
    /// <param name="shapes">Of the rank.</param>
    /// <param name="random">Makes the inputs.</param>
    public static IEnumerable<KernelBenchmark> Of(KernelShapes shapes, RandomInputs random) =>
        [.. Routed(shapes, random), .. Shared(shapes, random), .. Dense(shapes, random)];

    private static IEnumerable<KernelBenchmark> Routed(KernelShapes shapes, RandomInputs random)
    {
        if (shapes.ExpertLayerCalls == 0)
        {
            return [];
        }

        var rows = RowsPerExpert(shapes, random);
        return Layer("experts", rows, shapes.Model.Moe.ExpertWidth, isRouted: true, shapes.ExpertLayerCalls, shapes, random, shapes.Config.Optimizer.ExpertsInBackward);
    }

    private static IEnumerable<KernelBenchmark> Shared(KernelShapes shapes, RandomInputs random)
    {
        var moe = shapes.Model.Moe;
        return moe.SharedExperts == 0 || shapes.ExpertLayerCalls == 0
            ? []
            : Layer("shared experts", [shapes.Tokens], (long)moe.SharedExperts * moe.ExpertWidth, isRouted: false, shapes.ExpertLayerCalls, shapes, random);
    }

    private static IEnumerable<KernelBenchmark> Dense(KernelShapes shapes, RandomInputs random) => shapes.Model.DenseLayers == 0
        ? []
        : Layer(
            "feed-forward", [shapes.Tokens], shapes.Model.DenseWidth, isRouted: false, shapes.MicroBatches * shapes.Model.DenseLayers, shapes, random);

    private static IEnumerable<KernelBenchmark> Layer(
        string name, long[] rows, long hidden, bool isRouted, double calls, KernelShapes shapes, RandomInputs random, bool isStepped = false) =>
    [
        .. new SwiGluKernels(name, rows, hidden, isRouted, calls, shapes, random, isStepped).All(),
        .. new LinearKernels(shapes, random).Casts(name, rows.Length * 3 * hidden * shapes.Width, calls),
    ];

    // What the ranks' routers choose of this rank's experts, dropped choices left out.
    private static long[] RowsPerExpert(KernelShapes shapes, RandomInputs random)
    {
        using var scope = new TensorScope();
        var experts = shapes.Model.Moe.Experts;
        var chosen = new long[experts];
        foreach (var id in new RoutedTokens(shapes, random).Ids.ToArray<long>().Where(id => id < experts))
        {
            chosen[id]++;
        }

        var group = shapes.Mesh.Expert;
        var counts = Tensor.From(chosen, experts);
        group.AllReduce(counts);
        var local = experts / group.Size;
        return counts.ToArray<long>()[(group.Rank * local)..((group.Rank + 1) * local)];
    }
}

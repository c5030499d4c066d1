using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Training.Benchmarks;

/// <summary>What brings tokens to their experts and their results back: router, order, copies of rows and, where ranks share the experts, exchanges.</summary>
internal static class DispatchKernels
{
    /// <summary>All kernels. Every rank calls this at the same time.</summary>
    /// <param name="shapes">Of the rank.</param>
    /// <param name="random">Makes the inputs.</param>
    public static IEnumerable<KernelBenchmark> Of(KernelShapes shapes, RandomInputs random)
    {
        var routed = new RoutedTokens(shapes, random);
        var way = shapes.Mesh.Expert.Size == 1
            ? Local(routed, shapes, random)
            : new ExchangeKernels(routed, shapes, random).All();
        return [.. RouterKernels.Of(routed, shapes, random), .. way.Select(kernel => kernel with { CallsPerStep = shapes.ExpertLayerCalls })];
    }

    // Shapes: T tokens, k choices, N rows; a rank that holds all experts permutes only.
    private static IEnumerable<KernelBenchmark> Local(RoutedTokens routed, KernelShapes shapes, RandomInputs random)
    {
        var experts = shapes.Model.Moe.Experts;
        var order = PairOrder.Of(routed.Ids, experts);
        var rows = order.Groups.Lengths().Sum(); // on a GPU dropped choices have places of their own
        var copies = new RowCopies(shapes, random);
        yield return RowCopies.Order("order of choices", routed.Ids, experts);
        yield return copies.Permute("rows to experts", KernelPass.Forward, order, rows, shapes.Tokens);
        yield return copies.PermuteNumbers("weights to experts", routed.Weights, order, rows);
        yield return copies.Sum("sum of experts' rows", KernelPass.Forward, order, rows, adds: shapes.Model.Moe.SharedExperts > 0);
        yield return copies.Permute("sum of experts' rows", KernelPass.Backward, order, rows, shapes.Tokens);
        yield return copies.Sum("rows to experts", KernelPass.Backward, order, rows);
        yield return copies.NumbersOfPairs("weights to experts", order, rows);
    }
}

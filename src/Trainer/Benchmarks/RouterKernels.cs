using Moe.Models;
using Moe.Torch;
using Moe.Torch.Kernels;
using Moe.Training.Configuration;

namespace Moe.Training.Benchmarks;

/// <summary>The router: its product, and choice, weights and counts from the logits.</summary>
/// <remarks>Shapes: T tokens of width D in G segments, E experts, k choices a token.</remarks>
internal static class RouterKernels
{
    /// <summary>Both kernels, forward and backward.</summary>
    /// <param name="routed">Whose logits are chosen by.</param>
    /// <param name="shapes">Of the rank.</param>
    /// <param name="random">Makes the other inputs.</param>
    public static IEnumerable<KernelBenchmark> Of(RoutedTokens routed, KernelShapes shapes, RandomInputs random) =>
        Product(routed, shapes, random).Concat(Choice(routed, shapes, random)).Select(kernel => kernel with { CallsPerStep = shapes.ExpertLayerCalls });

    private static IEnumerable<KernelBenchmark> Product(RoutedTokens routed, KernelShapes shapes, RandomInputs random)
    {
        var (tokens, width, experts) = (shapes.Tokens, shapes.Width, (long)shapes.Model.Moe.Experts);
        var shape = FormattableString.Invariant($"[{tokens}, {width}] x [{experts}, {width}]");
        var (rows, weight, logits) = (shapes.Size * tokens * width, shapes.WideSize * experts * width, shapes.WideSize * tokens * experts);
        var operations = 2.0 * tokens * width * experts;
        yield return new KernelBenchmark("router product", shape, KernelPass.Forward, rows + weight + logits, operations, () =>
        {
            var (x, w) = (routed.Tokens.Clone(), routed.Router.Clone());
            return new KernelCall(() => RouterProduct.Of(x, w));
        });
        yield return new KernelBenchmark("router product", shape, KernelPass.Backward, (2 * rows) + (2 * weight) + logits, 2 * operations, () =>
        {
            var (x, w) = (random.Leaf([tokens, width], shapes.Type), random.Leaf([experts, width], shapes.Wide, shapes.Model.InitStd));
            return RecordedCalls.Backward(() => RouterProduct.Of(x, w), random.Normal([tokens, experts], shapes.Wide), x, w);
        });
    }

    private static IEnumerable<KernelBenchmark> Choice(RoutedTokens routed, KernelShapes shapes, RandomInputs random)
    {
        var moe = shapes.Model.Moe;
        var segments = shapes.Config.Balance.Scope == BalanceScope.Sequence ? shapes.Config.Train.MicroBatch : 1L;
        var rule = new RouterRule(segments, moe.TopK, moe.Score == Models.RouterScore.Sigmoid, moe.NormalizeWeights, moe.RoutedScale);
        var shape = FormattableString.Invariant($"[{shapes.Tokens}, {moe.Experts}] top {moe.TopK}");
        var scores = shapes.WideSize * shapes.Tokens * moe.Experts;
        var (sums, chosen) = (segments * moe.Experts, (double)shapes.Tokens * moe.TopK);
        var chosenBytes = chosen * (sizeof(long) + (2 * shapes.WideSize));
        var sumBytes = sums * (sizeof(long) + shapes.WideSize);
        yield return new KernelBenchmark(
            "router choice", shape, KernelPass.Forward, scores + (sizeof(float) * moe.Experts) + chosenBytes + sumBytes + shapes.WideSize, 0, () =>
        {
            var (logits, bias) = (routed.Logits.Clone(), routed.Bias.Clone());
            return new KernelCall(() => RouterRows.Choose(logits, bias, rule));
        });
        var arrivingBytes = (chosen * (sizeof(long) + shapes.WideSize)) + (sums * shapes.WideSize) + shapes.WideSize;
        yield return new KernelBenchmark("router choice", shape, KernelPass.Backward, (2 * scores) + arrivingBytes, 0, () =>
        {
            var logits = routed.Logits.Clone();
            var ids = RouterRows.Choose(logits, routed.Bias, rule).Ids;
            var (weights, ofSums) = (random.Normal([shapes.Tokens, moe.TopK], shapes.Wide), random.Normal([segments, moe.Experts], shapes.Wide));
            var ofSquares = Tensor.Full([], 1, shapes.Wide, shapes.Device);
            return new KernelCall(() => RouterRows.Backward(logits, ids, rule, weights, ofSums, ofSquares));
        });
    }
}

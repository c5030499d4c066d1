using Moe.Torch;

namespace Moe.Models;

/// <summary>The limit on an expert's share of a segment, and which token-expert pairs go beyond it.</summary>
/// <remarks>
/// Lepikhin et al. 2020, https://arxiv.org/abs/2006.16668, but counted in segments of the batch instead of per rank, so that what is
/// dropped does not depend on the mesh.
/// </remarks>
internal static class Capacity
{
    // Equal tokens at the start of two sequences have equal scores, but for the rounding of products, which differs with the size of the
    // batch. Scores count in steps far above that rounding and far below what matters, so that such pairs are ties wherever they are computed.
    internal const double ScoreStep = 1.0 / 4096;

    /// <summary>Pairs of one segment, of 1 token or more, that an expert takes: ceil(factor * tokens * k / E), at most all.</summary>
    internal static long PerExpert(double factor, long tokens, long topK, long experts)
    {
        // In decimals, as the factor was written: in binary 1.1 is a little more, and would raise a whole quotient by one. They end at 1e-28, which is still above 0.
        var pairs = tokens * topK;
        return factor < experts ? Math.Max(1, (long)Math.Ceiling((decimal)factor * pairs / experts)) : pairs;
    }

    /// <summary>Marks the pairs that find their expert full.</summary>
    /// <param name="ids">[T, k] int64, T at least 1.</param>
    /// <param name="scores">[T, k], of the chosen experts.</param>
    /// <param name="counts">[G, E] int64: how the ids spread.</param>
    /// <param name="factor">Above 0.</param>
    /// <param name="policy">Who goes first.</param>
    /// <returns>[T, k] bool.</returns>
    internal static Tensor Overflow(Tensor ids, Tensor scores, Tensor counts, double factor, DropPolicy policy)
    {
        var (segments, experts) = (counts.Size(0), counts.Size(1));
        var pairsPerSegment = ids.Count / segments;
        var capacity = PerExpert(factor, pairsPerSegment / ids.Size(1), ids.Size(1), experts);

        // A queue is one expert in one segment. Sorting is stable, so within a queue the pairs keep the order of the policy.
        var queues = (ids.View(segments, -1) + Tensor.Arange(segments).To(ids.Device).Unsqueeze(1) * Whole(experts, ids)).View(-1);
        var order = policy == DropPolicy.Score
            ? scores.View(-1).Divide(ScoreStep).To(DType.Int64).ArgSort(0, descending: true)
            : Tensor.Arange(ids.Count).To(ids.Device);
        order = order.IndexSelect(0, queues.IndexSelect(0, order).ArgSort(0));

        var lengths = counts.View(-1);
        var starts = lengths.CumulativeSum(0) - lengths;
        var places = Tensor.Arange(ids.Count).To(ids.Device) - starts.IndexSelect(0, queues.IndexSelect(0, order));
        return ids.NewEmpty([ids.Count], DType.Bool).IndexCopy_(0, order, places.IsAtLeast(Whole(capacity, ids))).View(ids.Shape);
    }

    // libtorch takes a number beside an integer tensor for a float32.
    private static Tensor Whole(long value, Tensor beside) => Tensor.From([value]).To(beside.Device);
}

using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>Which ranks the tokens of this one go to, and how much that is.</summary>
/// <param name="Destinations">[T, m] int64: ranks in ascending order, each once; the number of ranks where none is left.</param>
/// <param name="Sizes">[ranks, 2] int64: tokens and choices for each rank.</param>
public readonly record struct DispatchPlan(Tensor Destinations, Tensor Sizes);

/// <summary>Tokens that travel with their choices: a row, the weights and the ids of the experts that it is for, in one piece of memory.</summary>
/// <remarks>
/// Shapes: T tokens, k slots, D width, m = min(k, ranks), N rows that leave, n that arrive. Packed rows are [N, stride] elements of the tokens' type,
/// whose first D are the token. Weights are float32, or float64 beside float64 tokens. native/kernels/dispatch.h has the layout.
/// </remarks>
public static class PackedRows
{
    private static readonly Operator ViewAs = new("aten::view", "dtype");

    /// <summary>Finds out where tokens go.</summary>
    /// <param name="ids">[T, k] int64 in [0, <paramref name="experts"/>], contiguous; the upper end means dropped.</param>
    /// <param name="experts">E, over all ranks and in equal shares.</param>
    /// <param name="ranks">Ranks that divide the experts.</param>
    /// <param name="sizes">[ranks, 2] int64 to write to.</param>
    /// <exception cref="ArgumentException">An id is not as above (on a CUDA device it counts as dropped instead).</exception>
    public static DispatchPlan Plan(Tensor ids, int experts, int ranks, Tensor sizes)
    {
        var destinations = ids.NewEmpty([ids.Size(0), Math.Min(ids.Size(1), ranks)]);
        Operator.CountCall();
        Abi.Check(Abi.PlanDispatch(ids.LiveHandle, experts, ranks, destinations.LiveHandle, sizes.LiveHandle, out var known, out var unknown));
        return known != 0 ? new DispatchPlan(destinations, sizes) : throw PairOrder.Unknown(unknown, experts);
    }

    /// <summary>Elements from one packed row to the next.</summary>
    /// <param name="type">Of the tokens.</param>
    /// <param name="width">D.</param>
    /// <param name="slots">k.</param>
    /// <param name="withIds">Whether ids stand beside the weights.</param>
    public static long Stride(DType type, long width, long slots, bool withIds)
    {
        var bytes = Padded(width * type.Size()) + (slots * (type == DType.Float64 ? sizeof(double) : sizeof(float))) + (withIds ? slots * sizeof(int) : 0);
        return Padded(bytes) / type.Size();
    }

    /// <summary>Packs every token once for each rank that it goes to.</summary>
    /// <param name="tokens">[T, D].</param>
    /// <param name="weights">[T, k], contiguous.</param>
    /// <param name="ids">[T, k] int64, contiguous.</param>
    /// <param name="destinations">[T, m], of the plan.</param>
    /// <param name="order">Of the destinations, with N rows.</param>
    /// <param name="localExperts">Experts of one rank.</param>
    /// <returns>[N, stride].</returns>
    public static Tensor Pack(Tensor tokens, Tensor weights, Tensor ids, Tensor destinations, PairOrder order, int localExperts)
    {
        var packed = tokens.NewEmpty([order.Rows, Stride(tokens.DType, tokens.Size(1), ids.Size(1), withIds: true)]);
        Operator.CountCall();
        Abi.Check(Abi.PackRows(
            tokens.LiveHandle, weights.LiveHandle, ids.LiveHandle, destinations.LiveHandle, order.Pairs.LiveHandle, localExperts, packed.LiveHandle));
        return packed;
    }

    /// <summary>The choices that came with packed rows.</summary>
    /// <param name="packed">[n, stride].</param>
    /// <param name="width">D.</param>
    /// <param name="slots">k.</param>
    /// <returns>Ids [n, k] int64 among this rank's experts, their number where a place is empty; weights [n, k].</returns>
    public static (Tensor Ids, Tensor Weights) Choices(Tensor packed, long width, long slots)
    {
        var ids = packed.NewEmpty([packed.Size(0), slots], DType.Int64);
        var weights = packed.NewEmpty([packed.Size(0), slots], packed.DType == DType.Float64 ? DType.Float64 : DType.Float32);
        Operator.CountCall();
        Abi.Check(Abi.UnpackChoices(packed.LiveHandle, width, ids.LiveHandle, weights.LiveHandle));
        return (ids, weights);
    }

    /// <summary>Packs gradients for the way back: of each arrived row the sum over its experts' rows, and those of its weights.</summary>
    /// <param name="rows">Gradients of the experts' rows [R, D].</param>
    /// <param name="weights">Gradients of their weights [R].</param>
    /// <param name="order">Of the choices [n, k].</param>
    /// <returns>[n, stride], without ids.</returns>
    public static Tensor PackGradients(Tensor rows, Tensor weights, PairOrder order)
    {
        var packed = rows.NewEmpty([order.Places.Count / order.Slots, Stride(rows.DType, rows.Size(1), order.Slots, withIds: false)]);
        PackGradientsInto(rows, weights, order, packed);
        return packed;
    }

    /// <summary><see cref="PackGradients"/> into rows that are there.</summary>
    public static void PackGradientsInto(Tensor rows, Tensor weights, PairOrder order, Tensor packed)
    {
        var width = rows.Size(1);
        using var first = packed.Narrow(1, 0, width);
        order.SumInto(rows, null, first);
        Operator.CountCall();
        Abi.Check(Abi.PackWeights(weights.LiveHandle, order.Places.LiveHandle, width, order.Slots, packed.LiveHandle));
    }

    /// <summary>Writes the weights' part of packed gradients, whose rows are there.</summary>
    /// <param name="packed">[n, stride], without ids.</param>
    /// <param name="width">D.</param>
    /// <param name="weights">[n, k].</param>
    public static void SetWeights(Tensor packed, long width, Tensor weights)
    {
        using var numbers = packed.DType == weights.DType ? packed.Share() : ViewAs.Call(packed, weights.DType);
        using var part = numbers.Narrow(1, Padded(width * packed.DType.Size()) / weights.DType.Size(), weights.Size(1));
        part.CopyFrom_(weights);
    }

    /// <summary>The gradients of the weights [T, k] from packed gradients that came back; 0 where a choice was dropped.</summary>
    /// <param name="packed">[N, stride], without ids.</param>
    /// <param name="width">D.</param>
    /// <param name="ids">[T, k] int64.</param>
    /// <param name="destinations">[T, m], of the plan.</param>
    /// <param name="order">Of the destinations.</param>
    /// <param name="localExperts">Experts of one rank.</param>
    /// <param name="experts">E.</param>
    public static Tensor WeightGradients(Tensor packed, long width, Tensor ids, Tensor destinations, PairOrder order, int localExperts, int experts)
    {
        var weights = packed.NewEmpty(ids.Shape, packed.DType == DType.Float64 ? DType.Float64 : DType.Float32);
        WeightGradientsInto(packed, width, ids, destinations, order, localExperts, experts, weights);
        return weights;
    }

    /// <summary><see cref="WeightGradients"/> into weights [T, k] that are there.</summary>
    public static void WeightGradientsInto(
        Tensor packed, long width, Tensor ids, Tensor destinations, PairOrder order, int localExperts, int experts, Tensor weights)
    {
        Operator.CountCall();
        Abi.Check(Abi.CollectWeights(
            packed.LiveHandle, width, ids.LiveHandle, destinations.LiveHandle, order.Places.LiveHandle, localExperts, experts, weights.LiveHandle));
    }

    private static long Padded(long bytes) => (bytes + 15) / 16 * 16;
}

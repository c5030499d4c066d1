using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>
/// The (token, slot) pairs sorted by the id that was chosen, in their own order within an id: rows of tokens in the order of their experts, and the
/// way back. A token's row is read once, whatever the number of its places; on the way back it gathers them, so that no two threads ever add to one place
/// and the order of every sum is fixed.
/// </summary>
/// <remarks>
/// Shapes: T tokens, k slots, E ids, D width; a pair is token * k + slot. N = pairs that have an id; on a CUDA device, where their number stays,
/// N is T k, with the dropped pairs at the end.
/// </remarks>
public sealed class PairOrder
{
    private PairOrder(Tensor pairs, Tensor places, Tensor counts, RowGroups groups, long slots) =>
        (Pairs, Places, Counts, Groups, Slots) = (pairs, places, counts, groups, slots);

    /// <summary>[N] int32: sorted place -> pair.</summary>
    public Tensor Pairs { get; }

    /// <summary>[T k] int32: pair -> sorted place; -1 where it was dropped.</summary>
    public Tensor Places { get; }

    /// <summary>[E] int64: pairs of each id.</summary>
    public Tensor Counts { get; }

    /// <summary>The N rows by id.</summary>
    public RowGroups Groups { get; }

    /// <summary>k.</summary>
    public long Slots { get; }

    /// <summary>N.</summary>
    public long Rows => Pairs.Size(0);

    /// <summary>Sorts.</summary>
    /// <param name="ids">[T, k] int64 in [0, <paramref name="count"/>]; the upper end means dropped.</param>
    /// <param name="count">E.</param>
    /// <exception cref="ArgumentException">An id is not as above (on a CUDA device it counts as dropped instead).</exception>
    public static PairOrder Of(Tensor ids, int count)
    {
        using var packed = ids.Contiguous();
        var pairs = ids.NewEmpty([ids.Count], DType.Int32);
        var places = ids.NewEmpty([ids.Count], DType.Int32);
        var counts = ids.NewEmpty([count]);
        var offsets = ids.NewEmpty([count], DType.Int32);
        Operator.CountCall();
        Abi.Check(Abi.SortPairs(
            packed.LiveHandle, count, pairs.LiveHandle, places.LiveHandle, counts.LiveHandle, offsets.LiveHandle, out var known, out var unknown));
        if (known == 0)
        {
            throw Unknown(unknown, count);
        }

        var order = new PairOrder(pairs, places, counts, new RowGroups(offsets), ids.Size(1));
        return ids.Device.IsCuda ? order : order.First(offsets.Span<int>()[^1]);
    }

    /// <summary>The same with N as it is known to be from elsewhere.</summary>
    /// <param name="rows">N.</param>
    public PairOrder First(long rows) => rows == Rows ? this : new PairOrder(Pairs.Narrow(0, 0, rows), Places, Counts, Groups, Slots);

    /// <summary>The same on handles that live as long as a graph needs them.</summary>
    /// <param name="save">Of the function whose backward goes by this order.</param>
    public PairOrder Saved(Func<Tensor, Tensor> save) => new(save(Pairs), save(Places), Counts, new RowGroups(save(Groups.Offsets!)), Slots);

    /// <summary>Tokens [T, D] -> rows [N, D]: each token once a pair; zeros for dropped ones.</summary>
    /// <param name="tokens">Rows without gaps within.</param>
    public Tensor Permute(Tensor tokens)
    {
        var rows = tokens.NewEmpty([Rows, tokens.Size(1)]);
        Operator.CountCall();
        Abi.Check(Abi.SpreadRows(tokens.LiveHandle, Places.LiveHandle, Slots, Groups.Offsets!.LiveHandle, rows.LiveHandle));
        return rows;
    }

    /// <summary>Rows [N, D] -> tokens [T, D]: the sum over the slots of a token, in ascending order, and then of what is added.</summary>
    /// <param name="rows">[N, D].</param>
    /// <param name="added">[T, D]; left out, nothing.</param>
    public Tensor Sum(Tensor rows, Tensor? added = null)
    {
        var tokens = rows.NewEmpty([Places.Count / Slots, rows.Size(1)]);
        SumInto(rows, added, tokens);
        return tokens;
    }

    /// <summary><see cref="Sum"/> into a matrix whose rows may have gaps between them.</summary>
    public void SumInto(Tensor rows, Tensor? added, Tensor tokens)
    {
        Operator.CountCall();
        Abi.Check(Abi.SumRows(rows.LiveHandle, Places.LiveHandle, Slots, added?.LiveHandle ?? 0, tokens.LiveHandle));
    }

    /// <summary>Numbers of the pairs [T, k] -> [N], those of the rows. float32 or float64.</summary>
    public Tensor PermuteNumbers(Tensor numbers) => Pick(numbers, Pairs, [Rows]);

    /// <summary>Numbers of the rows [N] -> [T, k], those of the pairs; 0 where a pair was dropped.</summary>
    public Tensor NumbersOfPairs(Tensor numbers) => Pick(numbers, Places, [Places.Count / Slots, Slots]);

    internal static ArgumentException Unknown(long id, int experts) =>
        new($"there is no expert {id}: ids go from 0 to {experts - 1}, and {experts} means dropped");

    private static Tensor Pick(Tensor numbers, Tensor places, ReadOnlySpan<long> shape)
    {
        var picked = numbers.NewEmpty(shape);
        Operator.CountCall();
        Abi.Check(Abi.PickNumbers(numbers.LiveHandle, places.LiveHandle, picked.LiveHandle));
        return picked;
    }
}

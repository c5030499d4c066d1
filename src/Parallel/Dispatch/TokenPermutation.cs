using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// Sorts the (token, slot) pairs of a rank by the expert that was chosen, and keeps the order within an expert. Permuting tokens and
/// adding up rows are each other's adjoint.
/// </summary>
/// <remarks>
/// Shapes: T tokens, k slots, D width, N = T * k less the dropped pairs, E experts. Each direction is a gather, so that no two
/// threads ever add to one place and the order of every sum is fixed. All places stand on the host: this is the CPU's form.
/// </remarks>
internal sealed class TokenPermutation
{
    private const int Dropped = -1;

    private readonly int _slots;
    private readonly int[] _pairs; // [N]: sorted place -> pair
    private readonly int[] _places; // [T * k]: pair -> sorted place, or Dropped

    /// <param name="expertIds">[T, k] int64, in [0, <paramref name="experts"/>]; the upper end means dropped.</param>
    /// <param name="experts">E.</param>
    /// <exception cref="ArgumentException">There is no expert of that id.</exception>
    public TokenPermutation(Tensor expertIds, int experts)
    {
        using var packed = expertIds.Contiguous();
        var ids = packed.Span<long>();
        _slots = (int)expertIds.Size(1);
        Counts = Count(ids, experts);
        _pairs = new int[Counts.Sum()];
        _places = new int[ids.Length];
        Sort(ids);
    }

    /// <summary>[E]: pairs of each expert.</summary>
    public long[] Counts { get; }

    /// <summary>N: pairs that were not dropped.</summary>
    public int Rows => _pairs.Length;

    /// <summary>Tokens [T, D] -> rows [N, D]: each token once a pair, by expert.</summary>
    public Tensor Permute(Tensor tokens) => RowKernels.Gather(tokens, _pairs, _slots);

    /// <summary>Tokens [T, D] and weights [T, k] -> rows [N, D]: as <see cref="Permute(Tensor)"/>, each times the weight of its pair.</summary>
    public Tensor Permute(Tensor tokens, Tensor weights) => RowKernels.GatherScaled(tokens, weights, _pairs, _slots);

    /// <summary>Rows [N, D] -> tokens [T, D]: the sum over the slots of a token, in ascending order.</summary>
    /// <param name="rows">[N, D].</param>
    /// <param name="weights">[T, k] of the pairs; left out, 1.</param>
    public Tensor Sum(Tensor rows, Tensor? weights = null) => RowKernels.SumGathered(rows, weights, _places, _slots);

    /// <summary>Tokens [T, D] and rows [N, D] -> [T, k]: the dot product of each pair's token and row; 0 where the pair was dropped.</summary>
    public Tensor Dot(Tensor tokens, Tensor rows) => RowKernels.DotGathered(tokens, rows, _places, _slots);

    private static long[] Count(ReadOnlySpan<long> ids, int experts)
    {
        var counts = new long[experts + 1];
        foreach (var id in ids)
        {
            if ((ulong)id > (ulong)experts)
            {
                throw new ArgumentException($"there is no expert {id}: ids go from 0 to {experts - 1}, and {experts} means dropped", nameof(ids));
            }

            counts[id]++;
        }

        return counts[..experts];
    }

    // A counting sort: stable, and linear in the pairs.
    private void Sort(ReadOnlySpan<long> ids)
    {
        var next = new int[Counts.Length];
        for (var expert = 1; expert < next.Length; expert++)
        {
            next[expert] = next[expert - 1] + (int)Counts[expert - 1];
        }

        for (var pair = 0; pair < ids.Length; pair++)
        {
            if (ids[pair] == next.Length)
            {
                _places[pair] = Dropped;
                continue;
            }

            var place = next[ids[pair]]++;
            _places[pair] = place;
            _pairs[place] = pair;
        }
    }
}

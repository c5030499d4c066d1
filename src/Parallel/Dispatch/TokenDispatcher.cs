using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// Brings tokens to the experts that they chose, and the experts' results back: the one place where a mixture of experts communicates.
/// </summary>
/// <remarks>
/// Shapes: T = tokens of this rank, D = width, k = experts a token chooses, E = experts of the layer over all ranks, E_local = those of
/// this rank, R = rows of this rank's experts, one a (token, slot) pair. Experts are divided without gaps: rank r of n holds
/// r * E/n ... (r + 1) * E/n - 1. Both directions are part of the autograd graph. All ranks of the group call both in the same
/// order, ranks without tokens or without rows included; what an expert makes of its rows must stay on the graph even where there are
/// none, since the backward communicates too.
/// </remarks>
public abstract class TokenDispatcher
{
    /// <param name="experts">E, at least 1; a multiple of <paramref name="ranks"/>.</param>
    /// <param name="ranks">Ranks that divide the experts.</param>
    /// <param name="rank">This one among them.</param>
    /// <exception cref="ArgumentException">The experts can't be divided evenly.</exception>
    private protected TokenDispatcher(int experts, int ranks, int rank)
    {
        if (experts < 1 || experts % ranks != 0)
        {
            throw new ArgumentException($"{experts} experts can't be divided evenly among {ranks} ranks", nameof(experts));
        }

        Experts = experts;
        LocalExperts = experts / ranks;
        FirstExpert = rank * LocalExperts;
    }

    /// <summary>E: experts of the layer over all ranks.</summary>
    public int Experts { get; }

    /// <summary>E_local: experts of this rank.</summary>
    public int LocalExperts { get; }

    /// <summary>Global id of this rank's first expert.</summary>
    public int FirstExpert { get; }

    /// <summary>Brings each token to the experts that it chose, with the weight of each choice.</summary>
    /// <param name="tokens">[T, D], bfloat16, float32 or float64.</param>
    /// <param name="expertIds">[T, k] int64 in [0, E]; E stands for a dropped choice, which is sent nowhere.</param>
    /// <param name="weights">[T, k]; the type may differ from that of the tokens. What stands at a dropped choice has no effect.</param>
    /// <exception cref="ArgumentException">Shapes, types or ids are not as above.</exception>
    /// <exception cref="CommunicationException">The exchange failed.</exception>
    public Dispatched Dispatch(Tensor tokens, Tensor expertIds, Tensor weights)
    {
        if (tokens.Rank != 2 || !tokens.DType.IsFloatingPoint())
        {
            throw new ArgumentException($"tokens should be a floating-point [T, D], not {tokens}", nameof(tokens));
        }

        if (expertIds.Rank != 2 || expertIds.DType != DType.Int64 || expertIds.Size(0) != tokens.Size(0))
        {
            throw new ArgumentException($"expert ids should be an Int64 [{tokens.Size(0)}, k], not {expertIds}", nameof(expertIds));
        }

        if (!weights.Shape.AsSpan().SequenceEqual(expertIds.Shape) || !weights.DType.IsFloatingPoint())
        {
            throw new ArgumentException($"weights should be a floating-point [{string.Join(", ", expertIds.Shape)}], not {weights}", nameof(weights));
        }

        using var span = Spans.Open("dispatch");
        return Route(tokens, expertIds, weights);
    }

    /// <summary>
    /// Brings the experts' results back to their tokens, and adds them up. They should carry their <see cref="Dispatched.RowWeights"/> already.
    /// </summary>
    /// <param name="rows">[R, D], in the order of <see cref="Dispatched.Rows"/>; of the tokens' type on all ranks.</param>
    /// <param name="dispatched">Where the rows came from.</param>
    /// <param name="added">[T, D] of the rows' type, added to each token's sum; left out, nothing.</param>
    /// <returns>
    /// [T, D] of the rows' type: first the sum over a token's choices on each rank, in ascending order of the slots, and then over the ranks, in theirs;
    /// 0 for a token whose choices were all dropped.
    /// </returns>
    /// <exception cref="ArgumentException">A shape is not as above, or another dispatcher has dispatched.</exception>
    /// <exception cref="CommunicationException">The exchange failed.</exception>
    public Tensor Combine(Tensor rows, Dispatched dispatched, Tensor? added = null)
    {
        if (!ReferenceEquals(dispatched.Dispatcher, this))
        {
            throw new ArgumentException("rows go back by the dispatcher that they came by", nameof(dispatched));
        }

        if (rows.Rank != 2 || rows.Size(0) != dispatched.Rows.Size(0) || rows.DType != dispatched.Rows.DType)
        {
            throw new ArgumentException($"rows should be like those dispatched, {dispatched.Rows}, not {rows}", nameof(rows));
        }

        if (added is not null && (added.DType != rows.DType || added.Rank != 2 || added.Size(0) != dispatched.Tokens || added.Size(1) != rows.Size(1)))
        {
            throw new ArgumentException($"what is added should be a {rows.DType} [{dispatched.Tokens}, {rows.Size(1)}], not {added}", nameof(added));
        }

        using var span = Spans.Open("combine");
        return dispatched.Combine(rows, added);
    }

    /// <summary>The type in which weights travel beside rows of a type, and sums over rows are taken.</summary>
    private protected static DType WeightType(Tensor rows) => rows.DType == DType.Float64 ? DType.Float64 : DType.Float32;

    /// <summary><see cref="Dispatch"/>, with arguments that fit each other.</summary>
    private protected abstract Dispatched Route(Tensor tokens, Tensor expertIds, Tensor weights);
}

using Moe.Torch;

namespace Moe.Distributed;

/// <summary>
/// Brings tokens to the experts that they chose, and the experts' results back: the one place where a mixture of experts communicates.
/// </summary>
/// <remarks>
/// Shapes: T = tokens of this rank, D = width, k = experts a token chooses, E = experts of the layer over all ranks, E_local = those of
/// this rank, R = rows that arrive here, one a (token, slot) pair. Experts are divided without gaps: rank r of n holds
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

    /// <summary>Brings each token to the experts that it chose.</summary>
    /// <param name="tokens">[T, D], bfloat16, float32 or float64.</param>
    /// <param name="expertIds">[T, k] int64 in [0, E]; E stands for a dropped choice, which is sent nowhere.</param>
    /// <exception cref="ArgumentException">Shapes, types or ids are not as above.</exception>
    /// <exception cref="CommunicationException">The exchange failed.</exception>
    public Dispatched Dispatch(Tensor tokens, Tensor expertIds)
    {
        if (tokens.Rank != 2 || !tokens.DType.IsFloatingPoint())
        {
            throw new ArgumentException($"tokens should be a floating-point [T, D], not {tokens}", nameof(tokens));
        }

        if (expertIds.Rank != 2 || expertIds.DType != DType.Int64 || expertIds.Size(0) != tokens.Size(0))
        {
            throw new ArgumentException($"expert ids should be an Int64 [{tokens.Size(0)}, k], not {expertIds}", nameof(expertIds));
        }

        return Route(tokens, expertIds);
    }

    /// <summary>Brings the experts' results back to their tokens, and adds them up by weight.</summary>
    /// <param name="rows">[R, D], in the order of <see cref="Dispatched.Rows"/>; of the tokens' type on all ranks.</param>
    /// <param name="weights">[T, k]; the type may differ from that of the rows. What stands at a dropped choice has no effect.</param>
    /// <param name="dispatched">Where the rows came from.</param>
    /// <returns>[T, D] of the rows' type: sum over k, in ascending order, of weight times row; 0 for a token whose choices were all dropped.</returns>
    /// <exception cref="ArgumentException">A shape is not as above, or another dispatcher has dispatched.</exception>
    /// <exception cref="CommunicationException">The exchange failed.</exception>
    public Tensor Combine(Tensor rows, Tensor weights, Dispatched dispatched)
    {
        if (!ReferenceEquals(dispatched.Dispatcher, this))
        {
            throw new ArgumentException("rows go back by the dispatcher that they came by", nameof(dispatched));
        }

        if (rows.Rank != 2 || rows.Size(0) != dispatched.Rows.Size(0) || rows.DType != dispatched.Rows.DType)
        {
            throw new ArgumentException($"rows should be like those dispatched, {dispatched.Rows}, not {rows}", nameof(rows));
        }

        if (!weights.Shape.AsSpan().SequenceEqual(dispatched.ChoiceShape))
        {
            throw new ArgumentException($"weights should be [{string.Join(", ", dispatched.ChoiceShape)}], not {weights}", nameof(weights));
        }

        return dispatched.Combine(rows, weights);
    }

    /// <summary><see cref="Dispatch"/>, with arguments that fit each other.</summary>
    private protected abstract Dispatched Route(Tensor tokens, Tensor expertIds);
}

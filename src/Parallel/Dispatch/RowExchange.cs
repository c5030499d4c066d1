using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Moves rows between the ranks that have the tokens and the ranks that have the experts; the way back is the adjoint of the way out.</summary>
/// <remarks>Shapes: N = rows that this rank's tokens send, by expert; R = rows that arrive at its experts, by local expert and then by source rank.</remarks>
internal abstract class RowExchange
{
    /// <summary>[E_local]: rows that arrive at each expert of this rank.</summary>
    public abstract long[] RowsPerExpert { get; }

    /// <summary>From the tokens' side [N, D] to the experts' [R, D].</summary>
    /// <param name="rows">[N, D].</param>
    /// <param name="purpose">For the messages of failures.</param>
    public abstract Tensor Send(Tensor rows, string purpose);

    /// <summary>From the experts' side [R, D] to the tokens' [N, D].</summary>
    /// <param name="rows">[R, D].</param>
    /// <param name="purpose">For the messages of failures.</param>
    public abstract Tensor Return(Tensor rows, string purpose);
}

using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Distributed;

/// <summary>Where the tokens of one side of an exchange go: what packs them, and adds up what comes back. Nothing is recorded.</summary>
/// <remarks>Shapes: T tokens, k slots, D width, m = destinations of a token at most, N rows that leave.</remarks>
/// <param name="Exchange">Moves the rows.</param>
/// <param name="Ids">[T, k] int64; E means dropped.</param>
/// <param name="Destinations">[T, m], of the plan.</param>
/// <param name="Order">Of the destinations, with N rows.</param>
/// <param name="LocalExperts">Experts of one destination.</param>
/// <param name="Experts">E: those of all destinations.</param>
internal sealed record TokenHop(AllToAllExchange Exchange, Tensor Ids, Tensor Destinations, PairOrder Order, int LocalExperts, int Experts)
{
    /// <summary>k.</summary>
    public long Slots => Ids.Size(1);

    /// <summary>The same on handles that live as long as a graph needs them.</summary>
    public TokenHop Saved(Func<Tensor, Tensor> save) => this with { Ids = save(Ids), Destinations = save(Destinations), Order = Order.Saved(save) };

    /// <summary>Tokens [T, D], weights [T, k] -> packed rows [n, stride] on the other side.</summary>
    public (Tensor Rows, Work Work) Send(Tensor tokens, Tensor weights, string purpose)
    {
        using var leaving = PackedRows.Pack(tokens, weights, Ids, Destinations, Order, LocalExperts);
        return Exchange.Send(leaving, purpose);
    }

    /// <summary>Gradients of sums [T, D] -> [n, D] on the other side.</summary>
    public (Tensor Rows, Work Work) SendGradients(Tensor gradients, string purpose)
    {
        using var leaving = Order.Permute(gradients);
        return Exchange.Send(leaving, purpose);
    }

    /// <summary>Into [T, k], from packed gradients [N, stride] that came back; 0 where a choice was dropped.</summary>
    public void WeightGradientsInto(Tensor returned, long width, Tensor weights) =>
        PackedRows.WeightGradientsInto(returned, width, Ids, Destinations, Order, LocalExperts, Experts, weights);
}

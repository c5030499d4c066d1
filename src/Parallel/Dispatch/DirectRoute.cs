using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Every rank sends to every other one.</summary>
internal sealed class DirectRoute(TokenHop hop) : TokenRoute
{
    public override TokenRoute Saved(Func<Tensor, Tensor> save) => new DirectRoute(hop.Saved(save))
    {
        FirstToken = FirstToken,
        Tokens = Tokens,
        LeavingChoices = LeavingChoices,
        ArrivingRows = ArrivingRows,
        ArrivingChoices = ArrivingChoices,
    };

    public override RowsUnderWay Send(Tensor tokens, Tensor weights) => new(hop.Send(tokens, weights, "moe.dispatch"));

    public override RowsUnderWay Return(Tensor sums) => new(hop.Exchange.Return(sums, "moe.combine"));

    public override void SumInto(Tensor returned, Tensor? added, Tensor tokens) => hop.Order.SumInto(returned, added, tokens);

    public override RowsUnderWay SendGradients(Tensor gradients) => new(hop.SendGradients(gradients, "moe.combine.backward"));

    public override RowsUnderWay ReturnGradients(Tensor packed, long width) => new(hop.Exchange.Return(packed, "moe.dispatch.backward"));

    public override void SumGradientsInto(Tensor returned, Tensor? added, Tensor tokens)
    {
        using var rows = returned.Narrow(1, 0, tokens.Size(1));
        hop.Order.SumInto(rows, added, tokens);
    }

    public override void WeightGradientsInto(Tensor returned, long width, Tensor weights) => hop.WeightGradientsInto(returned, width, weights);
}

using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Distributed;

/// <summary>The way of tokens over the ranks of the other nodes that have this rank's number there.</summary>
/// <remarks>
/// Shapes as in <see cref="TokenRoute"/>; n' rows come to this rank from other nodes and its own, to be passed on. What it passes on is ordered when it is here;
/// forward keeps that for the way back and for backward.
/// </remarks>
internal sealed class TwoLevelRoute(TokenHop between, AllToAllExchange inside, int ranks, int localExperts) : TokenRoute
{
    private Func<Tensor, Tensor> _save = tensor => tensor;
    private TokenHop? _inside;

    public override TokenRoute Saved(Func<Tensor, Tensor> save) => new TwoLevelRoute(between.Saved(save), inside, ranks, localExperts)
    {
        FirstToken = FirstToken,
        Tokens = Tokens,
        LeavingChoices = LeavingChoices,
        PassingRows = PassingRows,
        ArrivingRows = ArrivingRows,
        ArrivingChoices = ArrivingChoices,
        _save = save,
        _inside = _inside?.Saved(save),
    };

    public override RowsUnderWay Send(Tensor tokens, Tensor weights)
    {
        var width = tokens.Size(1);
        return new(between.Send(tokens, weights, "moe.dispatch between nodes"), passing =>
        {
            var (ids, passingWeights) = PackedRows.Choices(passing, width, between.Slots);
            var plan = PackedRows.Plan(ids, between.LocalExperts, ranks, ids.NewEmpty([ranks, 2]));
            var order = PairOrder.Of(plan.Destinations, ranks).First(inside.LeavingRows);
            _inside = new TokenHop(inside, ids, plan.Destinations, order, localExperts, between.LocalExperts).Saved(_save);
            using var rows = passing.Narrow(1, 0, width);
            return _inside.Send(rows, passingWeights, "moe.dispatch");
        });
    }

    public override RowsUnderWay Return(Tensor sums) => new(inside.Return(sums, "moe.combine"), returned =>
    {
        using var passing = returned.NewEmpty([PassingRows, returned.Size(1)]);
        _inside!.Order.SumInto(returned, null, passing);
        return between.Exchange.Return(passing, "moe.combine between nodes");
    });

    public override void SumInto(Tensor returned, Tensor? added, Tensor tokens) => between.Order.SumInto(returned, added, tokens);

    public override RowsUnderWay SendGradients(Tensor gradients) => new(
        between.SendGradients(gradients, "moe.combine.backward between nodes"), passing => _inside!.SendGradients(passing, "moe.combine.backward"));

    public override RowsUnderWay ReturnGradients(Tensor packed, long width) => new(inside.Return(packed, "moe.dispatch.backward"), returned =>
    {
        using var passing = returned.NewEmpty([PassingRows, returned.Size(1)]);
        using var rows = passing.Narrow(1, 0, width);
        using var back = returned.Narrow(1, 0, width);
        _inside!.Order.SumInto(back, null, rows);
        using var weights = returned.NewEmpty([PassingRows, between.Slots], returned.DType == DType.Float64 ? DType.Float64 : DType.Float32);
        _inside.WeightGradientsInto(returned, width, weights);
        PackedRows.SetWeights(passing, width, weights);
        return between.Exchange.Return(passing, "moe.dispatch.backward between nodes");
    });

    public override void SumGradientsInto(Tensor returned, Tensor? added, Tensor tokens)
    {
        using var rows = returned.Narrow(1, 0, tokens.Size(1));
        between.Order.SumInto(rows, added, tokens);
    }

    public override void WeightGradientsInto(Tensor returned, long width, Tensor weights) => between.WeightGradientsInto(returned, width, weights);
}

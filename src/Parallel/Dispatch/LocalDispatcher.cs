using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Dispatch on a rank that holds all experts: a permutation, without communication.</summary>
/// <param name="experts">E, at least 1.</param>
public sealed class LocalDispatcher(int experts) : TokenDispatcher(experts, ranks: 1, rank: 0)
{
    private protected override Dispatched Route(Tensor tokens, Tensor expertIds)
    {
        var permutation = new TokenPermutation(expertIds, Experts);
        return PermutedDispatch.Route(this, tokens, expertIds, permutation, new StayingRows(permutation.Counts));
    }

    private sealed class StayingRows(long[] rowsPerExpert) : RowExchange
    {
        public override long[] RowsPerExpert => rowsPerExpert;

        public override Tensor Send(Tensor rows, string purpose) => rows;

        public override Tensor Return(Tensor rows, string purpose) => rows;
    }
}

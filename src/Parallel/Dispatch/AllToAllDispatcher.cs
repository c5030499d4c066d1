using Moe.Torch;

namespace Moe.Distributed;

/// <summary>Dispatch over a group of ranks that divide the experts: each row goes straight to the rank of its expert, and back.</summary>
/// <remarks>
/// A dispatch is one small all-to-all of counts, hidden behind the permutation of the rows, and one of rows; combine and both
/// backwards are one of rows each, with the splits that the dispatch left.
/// </remarks>
/// <param name="group">The ranks that hold all experts between them, of one replica; stays the caller's.</param>
/// <param name="experts">E, a multiple of the group's size.</param>
public sealed class AllToAllDispatcher(ProcessGroup group, int experts) : TokenDispatcher(experts, group.Size, group.Rank)
{
    private protected override Dispatched Route(Tensor tokens, Tensor expertIds)
    {
        var permutation = new TokenPermutation(expertIds, Experts);
        return PermutedDispatch.Route(this, tokens, expertIds, permutation, new AllToAllExchange(group, permutation.Counts));
    }
}

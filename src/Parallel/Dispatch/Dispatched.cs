using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Distributed;

/// <summary>Dispatches tokens [T, D] with weights [T, k] the way that others like them went, without finding that out anew.</summary>
/// <param name="tokens">[T, D].</param>
/// <param name="weights">[T, k].</param>
/// <param name="makesResult">Whether the values of what is combined are wanted; otherwise it is nothing but a place in the graph, and nothing travels for it.</param>
public delegate Dispatched DispatchCourse(Tensor tokens, Tensor weights, bool makesResult);

/// <summary>The rows of this rank's experts, and the way back to their tokens.</summary>
public sealed class Dispatched
{
    /// <param name="dispatcher">Where they were dispatched.</param>
    /// <param name="rows">[R, D].</param>
    /// <param name="rowWeights">[R].</param>
    /// <param name="groups">Of E_local experts.</param>
    /// <param name="tokens">T.</param>
    /// <param name="combine">From rows [R, D], and what is added [T, D], to tokens [T, D].</param>
    internal Dispatched(TokenDispatcher dispatcher, Tensor rows, Tensor rowWeights, RowGroups groups, long tokens, Func<Tensor, Tensor?, Tensor> combine)
    {
        Dispatcher = dispatcher;
        Rows = rows;
        RowWeights = rowWeights;
        Groups = groups;
        Tokens = tokens;
        Combine = combine;
    }

    /// <summary>[R, D], by local expert; those of an expert by source rank, and then as the tokens stand there.</summary>
    public Tensor Rows { get; }

    /// <summary>[R], on the graph: the weight of each row's choice; float32, or float64 beside float64 rows.</summary>
    public Tensor RowWeights { get; }

    /// <summary>How many of <see cref="Rows"/> each local expert has.</summary>
    public RowGroups Groups { get; }

    /// <summary>What <see cref="Rows"/> can be gathered from again; null where that is not less.</summary>
    public RowSource? Source { get; init; }

    /// <summary>
    /// Given what keeps tensors, the way of these tokens for a later dispatch; null where such a one finds it out anew. All ranks of the group make
    /// that one in the same order among their collectives, as they do this one.
    /// </summary>
    public Func<Func<Tensor, Tensor>, DispatchCourse>? Course { get; init; }

    internal TokenDispatcher Dispatcher { get; }

    internal long Tokens { get; }

    internal Func<Tensor, Tensor?, Tensor> Combine { get; }
}

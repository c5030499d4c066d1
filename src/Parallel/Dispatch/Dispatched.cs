using Moe.Torch;

namespace Moe.Distributed;

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

    internal TokenDispatcher Dispatcher { get; }

    internal long Tokens { get; }

    internal Func<Tensor, Tensor?, Tensor> Combine { get; }
}

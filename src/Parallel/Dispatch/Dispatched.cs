using Moe.Torch;

namespace Moe.Distributed;

/// <summary>The rows that came to this rank's experts, and the way back to their tokens.</summary>
public sealed class Dispatched
{
    /// <param name="dispatcher">Where they were dispatched.</param>
    /// <param name="rows">[R, D].</param>
    /// <param name="rowsPerExpert">[E_local].</param>
    /// <param name="choiceShape">[T, k].</param>
    /// <param name="combine">From rows [R, D] and weights [T, k] to tokens [T, D].</param>
    internal Dispatched(
        TokenDispatcher dispatcher, Tensor rows, long[] rowsPerExpert, long[] choiceShape, Func<Tensor, Tensor, Tensor> combine)
    {
        Dispatcher = dispatcher;
        Rows = rows;
        RowsPerExpert = rowsPerExpert;
        ChoiceShape = choiceShape;
        Combine = combine;
    }

    /// <summary>[R, D], by local expert; those of an expert by source rank, and then as the tokens stand there.</summary>
    public Tensor Rows { get; }

    /// <summary>[E_local]: how many of <see cref="Rows"/> each local expert has.</summary>
    public long[] RowsPerExpert { get; }

    internal TokenDispatcher Dispatcher { get; }

    internal long[] ChoiceShape { get; }

    internal Func<Tensor, Tensor, Tensor> Combine { get; }
}

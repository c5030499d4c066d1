namespace Moe.Torch;

/// <summary>
/// What the rows that pass a linear layer add up to in one step: the inputs, the gradients that arrive at the outputs, and their number.
/// Sums and no means, so that micro-batches, ranks and experts of uneven load add up to the same as one process.
/// </summary>
/// <remarks>
/// Shapes: E experts in the stored weight (1 without), I inputs, O outputs. Losses are sums over tokens, so that a row's gradient is that
/// of its own sample: dL/dy of the mean loss times the number of samples. An expert's rows carry their router's weight.
/// </remarks>
/// <param name="input">[E, I] float64, whose start is the caller's.</param>
/// <param name="outputGradient">[E, O] float64.</param>
/// <param name="count">[E] float64: exact up to 2^53, and reduced over ranks in one piece with the sums.</param>
/// <param name="clip">Entries are brought into [-clip, clip] before they are added; above 0.</param>
public sealed class RowSums(Tensor input, Tensor outputGradient, Tensor count, double clip)
{
    /// <summary>[E, I]: sums of the inputs.</summary>
    public Tensor Input { get; } = input;

    /// <summary>[E, O]: sums of the outputs' gradients.</summary>
    public Tensor OutputGradient { get; } = outputGradient;

    /// <summary>[E]: rows.</summary>
    public Tensor Count { get; } = count;

    /// <summary>Adds rows that are sorted by expert.</summary>
    /// <param name="inputs">[R, I].</param>
    /// <param name="outputGradients">[R, O].</param>
    /// <param name="rowsPerExpert">[E], summing to R.</param>
    public void Add(Tensor inputs, Tensor outputGradients, long[] rowsPerExpert)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        AddRows(Input, inputs, rowsPerExpert);
        AddRows(OutputGradient, outputGradients, rowsPerExpert);
        var counts = Count.Span<double>();
        for (var expert = 0; expert < rowsPerExpert.Length; expert++)
        {
            counts[expert] += rowsPerExpert[expert];
        }
    }

    private void AddRows(Tensor sums, Tensor rows, long[] rowsPerExpert)
    {
        var clipped = (rows.DType == DType.BFloat16 ? rows.To(DType.Float32) : rows).Clamp(-clip, clip);
        var parts = clipped.Split(rowsPerExpert);
        for (var expert = 0; expert < parts.Length; expert++)
        {
            if (rowsPerExpert[expert] > 0)
            {
                sums.Select(0, expert).Add_(parts[expert].Sum(0));
            }
        }
    }
}

using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>
/// The experts' work on some of the rows that arrived at this rank: taking them apart, sorting them by expert, the SwiGLUs, and one sum an arrived row. Nothing is recorded.
/// </summary>
/// <remarks>
/// Shapes: n arrived rows in packed form, k slots, width D, E experts of this rank, R rows of theirs. Where it keeps, backward has the sorted rows and the first
/// projection; where it doesn't, the packed rows alone, from which it makes them again.
/// </remarks>
/// <param name="width">D.</param>
/// <param name="slots">k.</param>
/// <param name="experts">E.</param>
internal sealed class ExpertBlock(long width, long slots, int experts)
{
    private Tensor? _arrived; // [n, stride]; where it doesn't keep
    private PairOrder? _order; // where it keeps
    private SwiGluRows? _rows; // where it keeps
    private long? _choices; // R

    /// <summary>Takes the arrived rows apart; they are of no more use here afterwards where it <paramref name="keeps"/>.</summary>
    /// <param name="arrived">[n, stride].</param>
    /// <param name="choices">R; null where the host does not know it, and asks.</param>
    /// <param name="keeps">Whether backward finds what forward made.</param>
    /// <param name="save">Of the function whose backward this block takes part in.</param>
    internal void Take(Tensor arrived, long? choices, bool keeps, Func<Tensor, Tensor> save)
    {
        _choices = choices;
        if (keeps)
        {
            (_order, _rows) = Sort(arrived);
        }
        else
        {
            _arrived = save(arrived);
        }
    }

    /// <summary>What the experts make of the rows, summed for each arrived row in the order of its slots.</summary>
    /// <param name="gateUp">[E, 2F, D].</param>
    /// <param name="down">[E, D, F].</param>
    /// <param name="sums">[n, D] to write to.</param>
    /// <param name="save">Of the function whose backward this block takes part in.</param>
    /// <param name="saveLarge">The same for rows and their first projection.</param>
    internal void Forward(Tensor gateUp, Tensor down, Tensor sums, Func<Tensor, Tensor> save, Func<Tensor, Tensor> saveLarge)
    {
        using var scope = new TensorScope();
        var (order, rows) = _rows is null ? Sort(_arrived!) : (_order!, _rows);
        order.SumInto(rows.Forward(gateUp, down), null, sums);
        if (_rows is not null)
        {
            (_order, _rows) = (order.Saved(save), rows.Saved(save, saveLarge, saveLarge));
        }
    }

    /// <summary>The first part of backward: the gradients of the arrived rows and their weights, packed.</summary>
    /// <param name="gateUp">[E, 2F, D].</param>
    /// <param name="down">[E, D, F].</param>
    /// <param name="arriving">[n, D]: gradients of the sums.</param>
    /// <param name="packed">[n, stride] without ids, to write to; null where nobody wants them.</param>
    /// <param name="isWhole">Whether the second part may be made along with it (<see cref="SwiGluRows.Backward"/>).</param>
    /// <returns>For the second part (<see cref="SwiGluRows.Collect"/>), in the open scope.</returns>
    internal (SwiGluRows Rows, SwiGluRows.Gradients Gradients) Backward(Tensor gateUp, Tensor down, Tensor arriving, Tensor? packed, bool isWhole)
    {
        var (order, rows) = _rows is null ? Sort(_arrived!) : (_order!, _rows);
        var gradients = rows.Backward(gateUp, down, order.Permute(arriving), packed is not null, isWhole);
        if (packed is not null)
        {
            PackedRows.PackGradientsInto(gradients.Rows!, gradients.Weights!, order, packed);
            gradients.Rows!.Dispose();
        }

        return (rows, gradients);
    }

    private (PairOrder Order, SwiGluRows Rows) Sort(Tensor arrived)
    {
        var (ids, weights) = PackedRows.Choices(arrived, width, slots);
        var order = PairOrder.Of(ids, experts);
        order = order.First(_choices ??= order.Groups.Lengths().Sum());
        using var tokens = arrived.Narrow(1, 0, width);
        var rows = new SwiGluRows(order.Permute(tokens), order.PermuteNumbers(weights), order.Groups);
        ids.Dispose();
        weights.Dispose();
        return (order, rows);
    }
}

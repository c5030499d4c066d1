using Moe.Torch;

namespace Moe.Models;

/// <summary>A SwiGLU for each expert over its own rows: down(silu(gate(x)) * up(x)), rows sorted by expert.</summary>
/// <remarks>
/// Shapes: rows [R, D], gate_up [E, 2F, D] (gate above up), down [E, D, F], of which E are held here; a dense feed-forward part is
/// the case E = 1. Every product writes into its expert's place of one preallocated tensor. An expert without rows costs nothing
/// and has a gradient of zeros, so that every rank has a gradient for every parameter it holds.
/// Backward keeps the rows and the first projection, and computes the activation again.
/// </remarks>
public sealed class GroupedSwiGlu : Function
{
    private readonly long[] _rowsPerExpert;
    private readonly RowSums? _gateUpSums;
    private readonly RowSums? _downSums;
    private Tensor? _rows;
    private Tensor? _gateUp;
    private Tensor? _down;
    private Tensor? _hidden; // [R, 2F]

    private GroupedSwiGlu(long[] rowsPerExpert, RowSums? gateUpSums, RowSums? downSums) =>
        (_rowsPerExpert, _gateUpSums, _downSums) = (rowsPerExpert, gateUpSums, downSums);

    /// <summary>The experts' outputs, one a row.</summary>
    /// <param name="rows">[R, D], those of the first expert first.</param>
    /// <param name="gateUp">[E, 2F, D].</param>
    /// <param name="down">[E, D, F].</param>
    /// <param name="rowsPerExpert">[E], summing to R; any may be 0.</param>
    /// <param name="gateUpSums">Told of the rows at the first projection, in backward.</param>
    /// <param name="downSums">Told of the rows at the second one.</param>
    /// <returns>[R, D].</returns>
    public static Tensor Apply(
        Tensor rows, Tensor gateUp, Tensor down, long[] rowsPerExpert, RowSums? gateUpSums = null, RowSums? downSums = null) =>
        new GroupedSwiGlu(rowsPerExpert, gateUpSums, downSums).Apply(rows, gateUp, down)[0];

    /// <summary>The same by recorded operators: the oracle of the tests.</summary>
    public static Tensor Reference(Tensor rows, Tensor gateUp, Tensor down, long[] rowsPerExpert)
    {
        var parts = rows.Split(rowsPerExpert);
        for (var expert = 0; expert < parts.Length; expert++)
        {
            parts[expert] = SwiGlu.Reference(parts[expert].Linear(gateUp.Select(0, expert))).Linear(down.Select(0, expert));
        }

        return Shaping.Concatenate(parts);
    }

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        using var scope = new TensorScope();
        (_rows, _gateUp, _down) = (Save(inputs[0]), Save(inputs[1]), Save(inputs[2]));
        var hidden = Tensor.Empty([_rows.Size(0), _gateUp.Size(1)], _rows.DType);
        EachExpert((expert, place) => place(_rows).MatMulInto(_gateUp.Select(0, expert).Transpose(), place(hidden)));
        var activation = SwiGlu.Activate(hidden);
        var output = scope.Keep(Tensor.Empty(_rows.Shape, _rows.DType));
        EachExpert((expert, place) => place(activation).MatMulInto(_down.Select(0, expert).Transpose(), place(output)));
        _hidden = Save(hidden);
        return [output];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var arriving = outputGradients[0]!.Contiguous();
        var activationGradient = Tensor.Empty([_rows!.Size(0), _down!.Size(2)], _rows.DType);
        EachExpert((expert, place) => place(arriving).MatMulInto(_down.Select(0, expert), place(activationGradient)));
        var (activation, hiddenGradient) = SwiGlu.Backward(_hidden!, activationGradient);
        _gateUpSums?.Add(_rows, hiddenGradient, _rowsPerExpert);
        _downSums?.Add(activation, arriving, _rowsPerExpert);
        return
        [
            NeedsGradient(0) ? RowsGradient(hiddenGradient) : null,
            NeedsGradient(1) ? WeightGradient(_gateUp!, hiddenGradient, _rows) : null,
            NeedsGradient(2) ? WeightGradient(_down, arriving, activation) : null,
        ];
    }

    private Tensor RowsGradient(Tensor hiddenGradient)
    {
        var gradient = Tensor.Empty(_rows!.Shape, _rows.DType);
        EachExpert((expert, place) => place(hiddenGradient).MatMulInto(_gateUp!.Select(0, expert), place(gradient)));
        return gradient;
    }

    // For each expert the product of what arrived at its outputs, transposed, and its inputs.
    private Tensor WeightGradient(Tensor weight, Tensor arriving, Tensor inputs)
    {
        var gradient = Tensor.Empty(weight.Shape, weight.DType);
        EachExpert(
            (expert, place) => place(arriving).Transpose().MatMulInto(place(inputs), gradient.Select(0, expert)),
            expert => gradient.Select(0, expert).Zero_());
        return gradient;
    }

    // `place` cuts an expert's rows out of a tensor of all rows.
    private void EachExpert(Action<int, Func<Tensor, Tensor>> withRows, Action<int>? withoutRows = null)
    {
        var start = 0L;
        for (var expert = 0; expert < _rowsPerExpert.Length; expert++)
        {
            using var scope = new TensorScope();
            var (first, count) = (start, _rowsPerExpert[expert]);
            if (count > 0)
            {
                withRows(expert, rows => rows.Narrow(0, first, count));
            }
            else
            {
                withoutRows?.Invoke(expert);
            }

            start += count;
        }
    }
}

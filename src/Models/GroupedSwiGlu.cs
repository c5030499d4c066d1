using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>A SwiGLU for each expert over its own rows: down(w * silu(gate(x)) * up(x)), rows sorted by expert, with an optional weight a row.</summary>
/// <remarks>
/// Shapes: rows [R, D], gate_up [E, 2F, D] (gate above up), down [E, D, F], of which E are held here; a dense feed-forward part is
/// the case E = 1. The router's weight stands at the activation, where it commutes with the second projection: what that yields need not be
/// kept for the weight's gradient. An expert without rows has a gradient of zeros, so that every rank has a gradient for every parameter
/// it holds. Kept for backward are the rows and the first projection, or less (<see cref="SwiGluForm"/>); the activation is computed again.
/// </remarks>
public sealed class GroupedSwiGlu : Function
{
    private readonly MatrixUse _gateUpUse;
    private readonly MatrixUse _downUse;
    private readonly SwiGluForm _form;
    private RowGroups _groups;
    private Tensor? _rows;
    private Tensor? _gateUp;
    private Tensor? _down;
    private Tensor? _weights; // [R]
    private Tensor? _hidden; // [R, 2F]
    private RowSource? _source;

    private GroupedSwiGlu(RowGroups groups, MatrixUse gateUpUse, MatrixUse downUse, SwiGluForm form) =>
        (_groups, _gateUpUse, _downUse, _form) = (groups, gateUpUse, downUse, form);

    /// <summary>The experts' outputs, one a row.</summary>
    /// <param name="rows">[R, D], those of the first expert first.</param>
    /// <param name="gateUp">[E, 2F, D].</param>
    /// <param name="down">[E, D, F].</param>
    /// <param name="groups">The rows of each of the E experts.</param>
    /// <param name="rowWeights">[R], float32 (float64 beside float64 rows): how much each row counts; left out, 1.</param>
    /// <param name="gateUpUse">Who uses what backward makes at the first projection.</param>
    /// <param name="downUse">The same of the second one; the rows there are the activation without the weight, and the gradient with it.</param>
    /// <param name="form">What it keeps and makes; left out, all.</param>
    /// <returns>[R, D].</returns>
    public static Tensor Apply(
        Tensor rows,
        Tensor gateUp,
        Tensor down,
        RowGroups groups,
        Tensor? rowWeights = null,
        MatrixUse gateUpUse = default,
        MatrixUse downUse = default,
        SwiGluForm? form = null)
    {
        var function = new GroupedSwiGlu(groups, gateUpUse, downUse, form ?? SwiGluForm.Whole);
        return rowWeights is null ? function.Apply(rows, gateUp, down)[0] : function.Apply(rows, gateUp, down, rowWeights)[0];
    }

    /// <summary>The same by recorded operators: the oracle of the tests.</summary>
    public static Tensor Reference(Tensor rows, Tensor gateUp, Tensor down, long[] rowsPerExpert, Tensor? rowWeights = null)
    {
        var parts = rows.Split(rowsPerExpert);
        for (var expert = 0; expert < parts.Length; expert++)
        {
            parts[expert] = SwiGlu.Reference(parts[expert].Linear(gateUp.Select(0, expert))).Linear(down.Select(0, expert));
        }

        var results = Shaping.Concatenate(parts);
        return rowWeights is null ? results : results * rowWeights.Unsqueeze(1);
    }

    /// <inheritdoc/>
    protected override Tensor[] Forward(Tensor[] inputs)
    {
        using var scope = new TensorScope();
        var rows = inputs[0].Contiguous();
        KeepRows(rows);
        (_gateUp, _down) = (Save(inputs[1]), Save(inputs[2]));
        _weights = inputs.Length > 3 ? Save(inputs[3].Contiguous()) : null;
        _groups = _groups.Offsets is { } offsets ? new RowGroups(Save(offsets)) : _groups;
        if (!_form.MakesResult)
        {
            return [scope.Keep(rows.NewEmpty(rows.Shape))];
        }

        var worked = new SwiGluRows(rows, _weights, _groups);
        var output = worked.Forward(_gateUp, _down);
        _hidden = _form.KeepsHidden ? Save(worked.Hidden!, _form.Store) : null;
        return [scope.Keep(output)];
    }

    /// <inheritdoc/>
    protected override Tensor?[] Backward(Tensor?[] outputGradients)
    {
        var arriving = outputGradients[0]!.Contiguous();
        var worked = new SwiGluRows(_rows ?? _source!.Gather(), _weights, _groups).With(_hidden);
        var isWhole = NeedsGradient(1) && NeedsGradient(2) && _gateUpUse.Sums is null && _downUse.Sums is null;
        var parts = worked.Backward(_gateUp!, _down!, arriving, NeedsGradient(0), isWhole);
        var gateUp = NeedsGradient(1) ? new GradientTotal(parts: 1, _gateUpUse.Taker) : null;
        var down = NeedsGradient(2) ? new GradientTotal(parts: 1, _downUse.Taker) : null;
        worked.Collect(parts, gateUp, down, _gateUpUse.Sums, _downUse.Sums);
        Tensor?[] gradients = [parts.Rows, gateUp?.Take(), down?.Take()];
        return _weights is null ? gradients : [.. gradients, parts.Weights];
    }

    // Rows of experts are nobody else's; those of a dense part are what a norm keeps already.
    private void KeepRows(Tensor rows)
    {
        if (_form.Source is { } source)
        {
            _source = source.Saved((tensor, isAlone) => Save(tensor, isAlone ? _form.Store : null));
        }
        else
        {
            _rows = Save(rows, _groups.Offsets is null ? null : _form.Store);
        }
    }
}

using Moe.Torch;
using Moe.Torch.Kernels;

namespace Moe.Models;

/// <summary>Rows in the SwiGLUs of their experts, outside the graph: forward, and a backward whose two parts a caller may lay over an exchange.</summary>
/// <remarks>Shapes: rows [R, D] sorted by expert, gate_up [E, 2F, D], down [E, D, F]. As <see cref="GroupedSwiGlu"/>, which records.</remarks>
/// <param name="rows">[R, D], without gaps.</param>
/// <param name="weights">[R], float32 (float64 beside float64 rows): how much each row counts; null for 1.</param>
/// <param name="groups">The rows of each expert.</param>
internal sealed class SwiGluRows(Tensor rows, Tensor? weights, RowGroups groups)
{
    /// <summary>[R, 2F]: the first projection, once it was made.</summary>
    internal Tensor? Hidden { get; private set; }

    /// <summary>The same rows with what a forward has kept of them.</summary>
    /// <param name="hidden">[R, 2F]; null where it is to be made again.</param>
    internal SwiGluRows With(Tensor? hidden) => new(rows, weights, groups) { Hidden = hidden };

    /// <summary>[R, D]. The first projection stays for backward.</summary>
    /// <param name="gateUp">[E, 2F, D].</param>
    /// <param name="down">[E, D, F].</param>
    internal Tensor Forward(Tensor gateUp, Tensor down)
    {
        if (ExpertKernel.Fits(rows, gateUp, down))
        {
            (Hidden, var output) = ExpertKernel.Forward(rows, gateUp, down, groups, weights);
            return output;
        }

        (Hidden, var activation) = GroupedProduct.Gated(rows, gateUp, groups, weights);
        using (activation)
        using (var transposed = down.Transpose())
        {
            return GroupedProduct.Rows(activation, transposed, groups);
        }
    }

    /// <summary>The same on handles that live as long as a graph needs them.</summary>
    /// <param name="save">Of the function whose backward it takes part in.</param>
    /// <param name="saveHidden">The same for the first projection; null where backward is to make it again.</param>
    /// <param name="saveRows">The same for rows that nothing else keeps; null for <paramref name="save"/>.</param>
    internal SwiGluRows Saved(Func<Tensor, Tensor> save, Func<Tensor, Tensor>? saveHidden, Func<Tensor, Tensor>? saveRows = null) =>
        new((saveRows ?? save)(rows), weights is null ? null : save(weights), groups.Offsets is { } offsets ? new RowGroups(save(offsets)) : groups)
        {
            Hidden = saveHidden?.Invoke(Hidden!),
        };

    /// <summary>The first part of backward: the gradients of rows and weights.</summary>
    /// <param name="gateUp">[E, 2F, D].</param>
    /// <param name="down">[E, D, F].</param>
    /// <param name="arriving">[R, D]: gradients of the results; kept until the second part.</param>
    /// <param name="isWanted">Whether the rows' gradients are.</param>
    /// <param name="isWhole">Whether the second part may be made along with it, and will be asked for both matrices and no sums.</param>
    internal Gradients Backward(Tensor gateUp, Tensor down, Tensor arriving, bool isWanted, bool isWhole)
    {
        if (Hidden is null)
        {
            using var transposed = gateUp.Transpose();
            Hidden = GroupedProduct.Rows(rows, transposed, groups);
        }

        if (isWanted && isWhole && ExpertKernel.Fits(rows, gateUp, down))
        {
            var all = ExpertKernel.Backward(rows, gateUp, down, groups, weights, Hidden!, arriving);
            return new Gradients(all.Rows, all.Weights, null, new Matrices(all.GateUp, all.Down));
        }

        var (activation, hidden, ofWeights) = GroupedProduct.GatedBackward(arriving, down, groups, Hidden!, weights);
        return new Gradients(isWanted ? GroupedProduct.Rows(hidden, gateUp, groups) : null, ofWeights, new Factors(arriving, activation, hidden), null);
    }

    /// <summary>The second part of backward: the gradients of the matrices, and what the rows add up to.</summary>
    /// <param name="gradients">Of the first part.</param>
    /// <param name="gateUp">Takes the first projection's gradient; null where none is wanted.</param>
    /// <param name="down">Takes the second one's; null where none is wanted.</param>
    /// <param name="gateUpSums">Told of the rows at the first projection.</param>
    /// <param name="downSums">Told of the rows at the second one.</param>
    internal void Collect(Gradients gradients, GradientTotal? gateUp, GradientTotal? down, RowSums? gateUpSums, RowSums? downSums)
    {
        if (gradients.Matrices is { } made)
        {
            if (gateUp is null || down is null || gateUpSums is not null || downSums is not null)
            {
                throw new InvalidOperationException("the first part made both matrices' gradients, and kept nothing for sums of rows");
            }

            gateUp.Add(made.GateUp, groups);
            down.Add(made.Down, groups);
            return;
        }

        var (arriving, activation, hidden) = gradients.Factors!;
        gateUp?.AddProduct(hidden, rows, groups);
        down?.AddProduct(arriving, activation, groups);
        if (gateUpSums is null && downSums is null)
        {
            return;
        }

        var lengths = groups.Lengths();
        gateUpSums?.Add(rows, hidden, lengths);
        if (weights is null)
        {
            downSums?.Add(activation, arriving, lengths);
        }
        else
        {
            downSums?.Add(GatedRows.Activate(Hidden!, null), arriving * weights.Unsqueeze(1).To(arriving.DType), lengths);
        }
    }

    /// <summary>Between the two parts of a backward.</summary>
    /// <param name="Rows">[R, D]; null where not wanted.</param>
    /// <param name="Weights">[R]; null where the rows have none.</param>
    /// <param name="Factors">What the matrices' gradients are still to be made of; null where they are there.</param>
    /// <param name="Matrices">These gradients; null where they are to be made.</param>
    internal sealed record Gradients(Tensor? Rows, Tensor? Weights, Factors? Factors, Matrices? Matrices);

    /// <summary>Rows whose products are the matrices' gradients.</summary>
    /// <param name="Arriving">[R, D].</param>
    /// <param name="Activation">[R, F].</param>
    /// <param name="Hidden">[R, 2F]: the gradient of the first projection.</param>
    internal sealed record Factors(Tensor Arriving, Tensor Activation, Tensor Hidden);

    /// <summary>The matrices' gradients.</summary>
    /// <param name="GateUp">[E, 2F, D].</param>
    /// <param name="Down">[E, D, F].</param>
    internal sealed record Matrices(Tensor GateUp, Tensor Down);
}

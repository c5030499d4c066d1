using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>Matrix products of rows that are sorted by group, one a group, in one native call.</summary>
/// <remarks>
/// Transposes are views: nothing is copied for them. On a CUDA device bfloat16 goes through one kernel, with offsets left there.
/// </remarks>
public static class GroupedProduct
{
    /// <summary>Each group's rows times its matrix.</summary>
    /// <param name="rows">[R, K].</param>
    /// <param name="matrices">[E, K, N].</param>
    /// <param name="groups">Of the rows.</param>
    /// <returns>[R, N].</returns>
    /// <exception cref="TorchException">Shapes or types don't fit each other.</exception>
    public static Tensor Rows(Tensor rows, Tensor matrices, RowGroups groups) => Multiply(rows, matrices, groups);

    /// <summary>Each group's rows on the left, transposed, times its rows on the right: the gradient of the matrices.</summary>
    /// <param name="left">[R, M].</param>
    /// <param name="right">[R, N].</param>
    /// <param name="groups">Of the rows of both.</param>
    /// <returns>[E, M, N]; zeros for a group without rows.</returns>
    /// <exception cref="TorchException">Shapes or types don't fit each other.</exception>
    public static Tensor Matrices(Tensor left, Tensor right, RowGroups groups)
    {
        using var transposed = left.Transpose();
        return Multiply(transposed, right, groups);
    }

    /// <summary>Each group's rows times its gates and ups, and what <see cref="GatedRows.Activate"/> makes of that: in one pass where the device has a kernel for it, with the same bits.</summary>
    /// <param name="rows">[R, D].</param>
    /// <param name="gateUp">[E, 2F, D], gates above ups.</param>
    /// <param name="groups">Of the rows.</param>
    /// <param name="weights">[R], float32 (float64 beside float64 rows); null for 1.</param>
    /// <returns>The products [R, 2F] and the activation [R, F].</returns>
    /// <exception cref="TorchException">Shapes or types don't fit each other.</exception>
    public static (Tensor Products, Tensor Activation) Gated(Tensor rows, Tensor gateUp, RowGroups groups, Tensor? weights)
    {
        Operator.CountCall();
        Abi.Check(Abi.GatedMatMul(
            rows.LiveHandle, gateUp.LiveHandle, groups.Offsets?.LiveHandle ?? 0, weights?.LiveHandle ?? 0, out var product, out var activation));
        var products = new Tensor(product);
        return (products, activation == 0 ? GatedRows.Activate(products, weights) : new Tensor(activation));
    }

    /// <summary>Whether <see cref="Step"/> may have a kernel for such rows.</summary>
    /// <param name="rows">Either factor.</param>
    public static bool MayStep(Tensor rows) => rows.Device.IsCuda && rows.DType == DType.BFloat16;

    /// <summary>Steps matrices by their gradients, <see cref="Matrices"/> of the same rows, in one pass where the device has a kernel for it, with the same bits.</summary>
    /// <param name="left">[R, M].</param>
    /// <param name="right">[R, N].</param>
    /// <param name="groups">Of the rows of both.</param>
    /// <param name="update">What the gradients do to the matrices.</param>
    /// <returns>[E] float64: what the squares of each matrix's gradient add up to; null where there is no such kernel, and nothing was done.</returns>
    /// <exception cref="TorchException">Shapes, types or numbers of slots and coefficients don't fit each other.</exception>
    public static unsafe Tensor? Step(Tensor left, Tensor right, RowGroups groups, StackedUpdate update)
    {
        using var transposed = left.Transpose();
        nint result;
        fixed (nint* slots = Array.ConvertAll(update.Slots, slot => slot.LiveHandle))
        fixed (double* coefficients = update.Coefficients)
        {
            Abi.Check(Abi.GroupedMatMulStep(
                transposed.LiveHandle,
                right.LiveHandle,
                groups.Offsets?.LiveHandle ?? 0,
                (int)update.Rule,
                slots,
                update.Slots.Length,
                coefficients,
                update.Coefficients.Length,
                update.SkipsIdle ? 1 : 0,
                out result));
        }

        if (result == 0)
        {
            return null;
        }

        Operator.CountCall();
        return new Tensor(result);
    }

    /// <summary>
    /// What <see cref="GatedRows.Backward"/> makes of each group's rows times its matrix: in one pass where the device has a kernel for it, with the same bits but in the
    /// weights' gradient, whose sums run in another order.
    /// </summary>
    /// <param name="arriving">[R, D]: gradients of the down projection's results.</param>
    /// <param name="down">[E, D, F].</param>
    /// <param name="groups">Of the rows.</param>
    /// <param name="hidden">[R, 2F]: what the activation was made of, gates before ups, without gaps.</param>
    /// <param name="weights">[R], float32 (float64 beside float64 rows); null for 1.</param>
    /// <returns>The activation [R, F], weights included, the gradient of hidden [R, 2F] and that of the weights [R]; null where there are none.</returns>
    /// <exception cref="TorchException">Shapes or types don't fit each other.</exception>
    public static (Tensor Activation, Tensor Gradient, Tensor? WeightGradient) GatedBackward(
        Tensor arriving, Tensor down, RowGroups groups, Tensor hidden, Tensor? weights)
    {
        Operator.CountCall();
        Abi.Check(Abi.GatedMatMulBackward(
            arriving.LiveHandle,
            down.LiveHandle,
            groups.Offsets?.LiveHandle ?? 0,
            hidden.LiveHandle,
            weights?.LiveHandle ?? 0,
            out var product,
            out var activation,
            out var gradient,
            out var weightGradient));
        if (product != 0)
        {
            using var activationGradient = new Tensor(product);
            return GatedRows.Backward(hidden, weights, activationGradient);
        }

        return (new Tensor(activation), new Tensor(gradient), weightGradient == 0 ? null : new Tensor(weightGradient));
    }

    private static Tensor Multiply(Tensor left, Tensor right, RowGroups groups)
    {
        Operator.CountCall();
        Abi.Check(Abi.GroupedMatMul(left.LiveHandle, right.LiveHandle, groups.Offsets?.LiveHandle ?? 0, out var result));
        return new Tensor(result);
    }
}

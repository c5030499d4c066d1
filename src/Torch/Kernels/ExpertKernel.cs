using Moe.Torch.Native;

namespace Moe.Torch.Kernels;

/// <summary>The SwiGLUs of experts over their rows as one kernel on the host, whose blocks of rows stay in the cache between its products: native/kernels/experts.cpp.</summary>
/// <remarks>
/// Shapes: rows [R, D] sorted by expert, gate_up [E, 2F, D], down [E, D, F], weights [R], hidden [R, 2F]. All without gaps, of one type, float32 or float64.
/// </remarks>
public static class ExpertKernel
{
    /// <summary>Whether it takes these: on the host, where an expert's matrices fit the second cache and every thread has an expert.</summary>
    /// <param name="rows">[R, D].</param>
    /// <param name="gateUp">[E, 2F, D].</param>
    /// <param name="down">[E, D, F].</param>
    public static bool Fits(Tensor rows, Tensor gateUp, Tensor down)
    {
        if (rows.Device.IsCuda || gateUp.DType != rows.DType || !gateUp.IsContiguous || !down.IsContiguous)
        {
            return false;
        }

        Abi.Check(Abi.ExpertsFit((int)rows.DType, gateUp.Size(0), gateUp.Size(2), down.Size(2), out var fit));
        return fit != 0;
    }

    /// <summary>The first projection, which backward needs, and the experts' outputs [R, D].</summary>
    /// <param name="rows">[R, D].</param>
    /// <param name="gateUp">[E, 2F, D].</param>
    /// <param name="down">[E, D, F].</param>
    /// <param name="groups">The rows of each expert.</param>
    /// <param name="weights">[R]; null for 1.</param>
    /// <exception cref="TorchException">Shapes or types don't fit each other or the kernel.</exception>
    public static (Tensor Hidden, Tensor Output) Forward(Tensor rows, Tensor gateUp, Tensor down, RowGroups groups, Tensor? weights)
    {
        var (hidden, output) = (rows.NewEmpty([rows.Size(0), gateUp.Size(1)]), rows.NewEmpty(rows.Shape));
        Operator.CountCall();
        Abi.Check(Abi.ExpertsForward(
            rows.LiveHandle, gateUp.LiveHandle, down.LiveHandle, groups.Offsets?.LiveHandle ?? 0, weights?.LiveHandle ?? 0, hidden.LiveHandle, output.LiveHandle));
        return (hidden, output);
    }

    /// <summary>All gradients: of the rows, of their weights where there are any, of gate_up and of down, zeros for an expert without rows.</summary>
    /// <param name="rows">[R, D].</param>
    /// <param name="gateUp">[E, 2F, D].</param>
    /// <param name="down">[E, D, F].</param>
    /// <param name="groups">The rows of each expert.</param>
    /// <param name="weights">[R]; null for 1.</param>
    /// <param name="hidden">[R, 2F]: the first projection.</param>
    /// <param name="arriving">[R, D]: gradients of the outputs.</param>
    /// <exception cref="TorchException">Shapes or types don't fit each other or the kernel.</exception>
    public static (Tensor Rows, Tensor? Weights, Tensor GateUp, Tensor Down) Backward(
        Tensor rows, Tensor gateUp, Tensor down, RowGroups groups, Tensor? weights, Tensor hidden, Tensor arriving)
    {
        var (ofRows, ofWeights) = (rows.NewEmpty(rows.Shape), weights?.NewEmpty(weights.Shape));
        var (ofGateUp, ofDown) = (gateUp.NewEmpty(gateUp.Shape), down.NewEmpty(down.Shape));
        Operator.CountCall();
        Abi.Check(Abi.ExpertsBackward(
            rows.LiveHandle,
            gateUp.LiveHandle,
            down.LiveHandle,
            groups.Offsets?.LiveHandle ?? 0,
            weights?.LiveHandle ?? 0,
            hidden.LiveHandle,
            arriving.LiveHandle,
            ofRows.LiveHandle,
            ofWeights?.LiveHandle ?? 0,
            ofGateUp.LiveHandle,
            ofDown.LiveHandle));
        return (ofRows, ofWeights, ofGateUp, ofDown);
    }
}

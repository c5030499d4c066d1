using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>Bytes that an optimizer keeps of a parameter, as seen on one small parameter that it was given.</summary>
/// <param name="PerElement">For each weight.</param>
/// <param name="PerParameter">For each logical parameter beside: its count of steps.</param>
internal readonly record struct StateSize(long PerElement, long PerParameter)
{
    /// <summary>Asks the optimizer itself.</summary>
    /// <param name="config">Checked.</param>
    /// <param name="choice">How the parameter is stepped.</param>
    /// <param name="type">Of its weights.</param>
    public static StateSize Of(RunConfig config, OptimizerChoice choice, DType type)
    {
        const int Rows = 3, Columns = 5; // no state beside the weights' has so many elements
        using var scope = new TensorScope();
        var gradients = type == DType.Float64 ? DType.Float64 : DType.Float32;
        var parameter = new LogicalParameter("probe", ParameterKind.Matrix, Tensor.Zeros([Rows, Columns], type), Tensor.Zeros([Rows, Columns], gradients));
        using var optimizer = OptimizerAssembly.Build(config, choice, [parameter]);
        var perElement = 0L;
        var perParameter = 0L;
        foreach (var state in optimizer.State)
        {
            if (state.Value.Count == Rows * Columns)
            {
                perElement += state.Value.DType.Size();
            }
            else
            {
                perParameter += state.Value.Count * state.Value.DType.Size();
            }
        }

        return new StateSize(perElement, perParameter);
    }
}

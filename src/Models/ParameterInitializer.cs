using Moe.Torch;

namespace Moe.Models;

/// <summary>Makes the parameters of a model, each logical one a function of (seed, key) alone: the same bits on every mesh.</summary>
/// <param name="seed">Seed of the run.</param>
/// <param name="dtype">Float32; Float64, which holds the same, float32-rounded numbers; or BFloat16, which rounds them once more, and leaves norms and routers in float32.</param>
/// <param name="device">Where they stand.</param>
/// <param name="isOutline">Whether shapes alone are wanted: then every element of a parameter is one and the same place, and takes no memory.</param>
internal sealed class ParameterInitializer(ulong seed, DType dtype, Device device = default, bool isOutline = false)
{
    // Elements drawn at once before they go to a device or become another type: what a core's cache holds.
    private const int Piece = 1 << 18;

    private readonly List<Parameter> _parameters = [];

    /// <summary>What was made so far, in the order of its making.</summary>
    internal IReadOnlyList<Parameter> Parameters => _parameters;

    /// <summary>A parameter of normal numbers.</summary>
    /// <param name="name">Of the stored tensor.</param>
    /// <param name="shape">[R, C], or [E, R, C] with expert ids.</param>
    /// <param name="std">Standard deviation.</param>
    /// <param name="kind">What it is to the model.</param>
    /// <param name="expertIds">As in <see cref="Parameter"/>.</param>
    /// <param name="parts">As in <see cref="Parameter"/>.</param>
    internal Parameter Normal(
        string name, long[] shape, double std, ParameterKind kind = ParameterKind.Matrix, int[]? expertIds = null, ParameterPart[]? parts = null)
    {
        var type = kind == ParameterKind.Router ? WideType : dtype;
        var parameter = new Parameter(name, isOutline ? Outline(shape, type) : Tensor.Empty(shape, type, device).Detached(), kind, expertIds, parts);
        if (isOutline)
        {
            _parameters.Add(parameter);
            return parameter;
        }

        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        foreach (var (key, value) in parameter.Logical(parameter.Value.Detach()))
        {
            Fill(new RandomStream(seed, key), value, std);
        }

        _parameters.Add(parameter);
        return parameter;
    }

    /// <summary>The scale of an RMSNorm: ones.</summary>
    internal Parameter Norm(string name, long width)
    {
        var parameter = new Parameter(name, Tensor.Ones([width], WideType, device).Detached(), ParameterKind.Norm);
        _parameters.Add(parameter);
        return parameter;
    }

    private static Tensor Outline(long[] shape, DType type)
    {
        using var mode = Autograd.NoGrad();
        using var scope = new TensorScope();
        return Tensor.Zeros([1], type).Expand(shape).Detached();
    }

    private DType WideType => dtype == DType.Float64 ? DType.Float64 : DType.Float32;

    // The pieces are each a function of their place, so that any number of threads may draw them.
    private static void Fill(RandomStream stream, Tensor value, double std)
    {
        if (value.DType == DType.Float32 && !value.Device.IsCuda)
        {
            stream.FillNormal(value.Span<float>(), 0, 0, std);
            return;
        }

        using var drawn = Tensor.Empty(value.Shape);
        DrawInParallel(stream, drawn, std);
        value.CopyFrom_(drawn);
    }

    private static unsafe void DrawInParallel(RandomStream stream, Tensor drawn, double std)
    {
        var start = (float*)drawn.DataPointer;
        var count = drawn.Count;
        System.Threading.Tasks.Parallel.For(
            0L,
            (count + Piece - 1) / Piece,
            new ParallelOptions { MaxDegreeOfParallelism = TorchRuntime.Threads },
            piece => stream.FillNormal(new Span<float>(start + (piece * Piece), (int)Math.Min(Piece, count - (piece * Piece))), piece * Piece, 0, std));
    }
}

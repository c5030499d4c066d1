using Moe.Torch;

namespace Moe.Models;

/// <summary>Makes the parameters of a model, each logical one a function of (seed, key) alone: the same bits on every mesh.</summary>
/// <param name="seed">Seed of the run.</param>
/// <param name="dtype">Float32 or Float64, which holds the same, float32-rounded numbers.</param>
internal sealed class ParameterInitializer(ulong seed, DType dtype)
{
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
        var parameter = new Parameter(name, Tensor.Empty(shape, dtype).Detached(), kind, expertIds, parts);
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
        var parameter = new Parameter(name, Tensor.Ones([width], dtype).Detached(), ParameterKind.Norm);
        _parameters.Add(parameter);
        return parameter;
    }

    private static void Fill(RandomStream stream, Tensor value, double std)
    {
        if (value.DType == DType.Float32)
        {
            stream.FillNormal(value.Span<float>(), 0, 0, std);
            return;
        }

        var wide = value.Span<double>();
        var rounded = new float[wide.Length];
        stream.FillNormal(rounded, 0, 0, std);
        for (var i = 0; i < rounded.Length; i++)
        {
            wide[i] = rounded[i];
        }
    }
}

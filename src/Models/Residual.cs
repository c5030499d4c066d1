using Moe.Torch;

namespace Moe.Models;

/// <summary>The residual stream [B S, D] with what the last part of the model adds to it: the sum is made where it is normed, in one pass.</summary>
/// <param name="Stream">Without the change.</param>
/// <param name="Change">Null for none.</param>
internal readonly record struct Residual(Tensor Stream, Tensor? Change)
{
    /// <summary>The stream, and its change where there is a second tensor.</summary>
    internal static Residual Of(Tensor[] tensors) => new(tensors[0], tensors.Length > 1 ? tensors[1] : null);

    /// <summary>The stream with its change, and the norm of that.</summary>
    internal (Tensor Stream, Tensor Normed) Norm(Parameter scale, double epsilon)
    {
        using var span = Spans.Open("norm");
        return Change is null ? (Stream, RmsNorm.Apply(Stream, scale.Value, epsilon)) : ResidualNorm.Apply(Stream, Change, scale.Value, epsilon);
    }

    /// <summary>Frees both.</summary>
    internal void Dispose()
    {
        Stream.Dispose();
        Change?.Dispose();
    }
}

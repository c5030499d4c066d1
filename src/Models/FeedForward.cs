using Moe.Torch;

namespace Moe.Models;

/// <summary>A dense SwiGLU: the feed-forward part of the first layers, and the shared experts of the others.</summary>
internal sealed class FeedForward
{
    internal FeedForward(string name, int width, TransformerOptions options, ParameterInitializer initializer)
    {
        GateUp = initializer.Normal($"{name}.gate_up", [2L * width, options.Width], options.InitStd, parts: GateAndUp(width));
        Down = initializer.Normal($"{name}.down", [options.Width, width], options.ResidualStd);
    }

    /// <summary>[2F, D].</summary>
    internal Parameter GateUp { get; }

    /// <summary>[D, F].</summary>
    internal Parameter Down { get; }

    internal static ParameterPart[] GateAndUp(long width) => [new("gate", 0, width), new("up", width, width)];

    /// <summary>[T, D] -> [T, D].</summary>
    /// <param name="x">[T, D].</param>
    /// <param name="form">What it keeps and makes.</param>
    internal Tensor Forward(Tensor x, SwiGluForm form)
    {
        using var span = Spans.Open("feed-forward");
        return GroupedSwiGlu.Apply(
            x,
            GateUp.Value.To(x.DType).Unsqueeze(0),
            Down.Value.To(x.DType).Unsqueeze(0),
            RowGroups.Whole(x.Size(0)),
            null,
            MatrixUse.Of(GateUp),
            MatrixUse.Of(Down),
            form);
    }
}

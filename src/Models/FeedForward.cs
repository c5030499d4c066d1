using Moe.Torch;

namespace Moe.Models;

/// <summary>A dense SwiGLU: the feed-forward part of the first layers, and the shared experts of the others.</summary>
internal sealed class FeedForward
{
    private readonly Parameter _gateUp;
    private readonly Parameter _down;

    internal FeedForward(string name, int width, TransformerOptions options, ParameterInitializer initializer)
    {
        _gateUp = initializer.Normal($"{name}.gate_up", [2L * width, options.Width], options.InitStd, parts: GateAndUp(width));
        _down = initializer.Normal($"{name}.down", [options.Width, width], options.ResidualStd);
    }

    internal static ParameterPart[] GateAndUp(long width) => [new("gate", 0, width), new("up", width, width)];

    /// <summary>[T, D] -> [T, D].</summary>
    internal Tensor Forward(Tensor x) =>
        GroupedSwiGlu.Apply(
            x, _gateUp.Value.To(x.DType).Unsqueeze(0), _down.Value.To(x.DType).Unsqueeze(0), RowGroups.Whole(x.Size(0)), null, _gateUp.RowSums, _down.RowSums);
}

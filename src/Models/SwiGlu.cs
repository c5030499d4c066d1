using Moe.Torch;

namespace Moe.Models;

/// <summary>silu(gate) * up: the gated activation of Shazeer 2020, https://arxiv.org/abs/2002.05202, by recorded operators: the oracle of the tests.</summary>
/// <remarks>Shapes: the fused projection h [R, 2F] has the gate in its first F columns and up in the others; the activation is [R, F].</remarks>
internal static class SwiGlu
{
    /// <summary>The activation [R, F] of h [R, 2F].</summary>
    internal static Tensor Reference(Tensor h)
    {
        var width = h.Size(-1) / 2;
        return h.Narrow(-1, 0, width).Silu() * h.Narrow(-1, width, width);
    }
}

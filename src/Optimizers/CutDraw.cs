using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>
/// Draws one layer, each as likely, and trains it and all above: backward ends there. Of b layers (b + 1) / 2 train on average, the last always and the
/// first once in b steps.
/// </summary>
/// <param name="seed">Seed of the run.</param>
/// <param name="layers">Layers of the model, at least 1.</param>
public sealed class CutDraw(ulong seed, int layers) : LayerDraw(layers)
{
    private readonly RandomStream _cuts = new(seed, "drop_muon.cut");

    /// <inheritdoc/>
    public override bool[] Trained(long step)
    {
        var cut = _cuts.Below(step, Layers);
        return [.. Enumerable.Range(0, Layers).Select(layer => layer >= cut)];
    }
}

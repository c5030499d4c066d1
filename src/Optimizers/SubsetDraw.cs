using Moe.Torch;

namespace Moe.Optimizers;

/// <summary>Trains each layer with the same probability, by itself: backward passes the others, but finds no gradients for them.</summary>
/// <param name="seed">Seed of the run.</param>
/// <param name="layers">Layers of the model, at least 1.</param>
/// <param name="probability">Of a layer to train, in (0, 1].</param>
public sealed class SubsetDraw(ulong seed, int layers, double probability) : LayerDraw(layers)
{
    private readonly RandomStream _chances = new(seed, "drop_muon.subset");

    /// <inheritdoc/>
    public override bool[] Trained(long step)
    {
        var chances = new double[Layers];
        _chances.FillUniform(chances, step * Layers);
        return Array.ConvertAll(chances, chance => chance < probability);
    }
}

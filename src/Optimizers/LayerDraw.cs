namespace Moe.Optimizers;

/// <summary>Chooses the layers that train in a step: a function of seed and step alone, so that all ranks and every resumed run draw the same.</summary>
/// <param name="layers">Layers of the model, at least 1.</param>
public abstract class LayerDraw(int layers)
{
    /// <summary>Layers of the model.</summary>
    public int Layers { get; } = layers;

    /// <summary>Which layers train.</summary>
    /// <param name="step">Steps done before, from 0.</param>
    /// <returns>One a layer.</returns>
    public abstract bool[] Trained(long step);
}

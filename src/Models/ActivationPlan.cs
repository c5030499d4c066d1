using Moe.Torch;

namespace Moe.Models;

/// <summary>What is computed again in backward instead of being kept for it.</summary>
public enum Recomputation
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>The first product of every feed-forward part, and the experts' rows, which are gathered from their tokens again.</summary>
    Experts,

    /// <summary>Whole layers, from their inputs and what their routers decided.</summary>
    Block,
}

/// <summary>What the layers of a <see cref="Transformer"/> keep for backward, and where.</summary>
/// <param name="Recompute">What is computed again.</param>
/// <param name="Layers">In so many layers, the first ones: theirs is kept longest.</param>
/// <param name="Store">Where the largest part of what the layers keep waits; null to leave it where it is.</param>
public sealed record ActivationPlan(Recomputation Recompute = Recomputation.None, int Layers = int.MaxValue, HostStore? Store = null) : IDisposable
{
    /// <summary>What is computed again in a layer.</summary>
    /// <param name="layer">Its index.</param>
    public Recomputation Of(int layer) => layer < Layers ? Recompute : Recomputation.None;

    /// <summary>Frees the store.</summary>
    public void Dispose() => Store?.Dispose();

    /// <summary>What the feed-forward parts of a layer keep.</summary>
    internal SwiGluForm FormOf(int layer) => SwiGluForm.Whole with { KeepsHidden = Of(layer) == Recomputation.None, Store = Store };
}

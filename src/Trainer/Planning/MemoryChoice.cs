using Moe.Models;
using Moe.Torch;
using Moe.Training.Configuration;

namespace Moe.Training.Planning;

/// <summary>What is computed again in backward, in how many layers, and where the rest waits for it.</summary>
/// <param name="Recompute">Not <see cref="Recompute.Auto"/>.</param>
/// <param name="Layers">The first ones; 0 where nothing is computed again.</param>
/// <param name="Offloads">Whether what layers keep waits in the host's memory.</param>
public readonly record struct MemoryChoice(Recompute Recompute, int Layers, bool Offloads)
{
    /// <summary>What a configuration says, with nothing for what it leaves to a budget.</summary>
    public static MemoryChoice Of(RunConfig config)
    {
        var train = config.Train;
        return train.Recompute is Recompute.Auto or Recompute.None
            ? new MemoryChoice(Recompute.None, 0, train.Offload == Offload.Activations)
            : new MemoryChoice(train.Recompute, train.RecomputeLayers ?? config.Model.Layers, train.Offload == Offload.Activations);
    }

    /// <summary>A configuration that says this, and leaves nothing open.</summary>
    public TrainConfig In(TrainConfig train) => train with
    {
        Recompute = Recompute,
        RecomputeLayers = Recompute == Recompute.None ? null : Layers,
        Offload = Offloads ? Offload.Activations : Offload.None,
    };

    /// <summary>As the model takes it.</summary>
    /// <param name="device">Of the rank. What stands in the host's memory already is not offloaded.</param>
    internal ActivationPlan ToPlan(Device device) => new(
        Recompute switch
        {
            Recompute.Experts => Recomputation.Experts,
            Recompute.Block => Recomputation.Block,
            _ => Recomputation.None,
        },
        Layers,
        Offloads && device.IsCuda ? new HostStore(device) : null);

    /// <summary>What is done in a layer.</summary>
    internal Recompute Of(int layer) => layer < Layers ? Recompute : Recompute.None;

    /// <summary>As the keys of the configuration say it.</summary>
    public override string ToString() => (Recompute == Recompute.None ? "recompute none" : FormattableString.Invariant($"recompute {ConfigChoices.Spelling(Recompute)} in {Layers} layers"))
        + (Offloads ? ", offload activations" : "");
}

using Moe.Distributed;
using Moe.Tests.Distributed;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Layers that the optimizer leaves alone in a step: what is saved, and what must stay as it was.</summary>
public class FreezingTests : TinyRunTests
{
    [Test]
    public void Backward_and_its_collectives_end_at_the_lowest_trained_layer([Values("cut", "subset")] string form) => Run(FreezingScenarios.CountWork, form);

    [Test]
    public void Trained_layers_move_as_if_nothing_were_frozen_and_frozen_ones_not_at_all([Values("cut", "subset")] string form) =>
        Run(FreezingScenarios.MoveOnlyTrained, form);

    private void Run(Action<ProcessGroup, string[]> scenario, string form) => Ranks.Run(scenario, [Folder, form], 2, "gloo");
}

using Moe.Distributed;
using Moe.Tests.Distributed;
using Moe.Tests.Training;
using NUnit.Framework;

namespace Moe.Tests.Checkpoints;

/// <summary>A checkpoint of any mesh goes on on any other: on its own with the same bits, elsewhere with the same losses.</summary>
public class CheckpointMeshTests : TinyRunTests
{
    private static readonly string Backend = Ranks.Backends[^1];

    [OneTimeSetUp]
    public void Save()
    {
        using var world = new SingleProcessGroup(TimeSpan.FromSeconds(10));
        CheckpointScenarios.SaveOnEveryMesh(world, [Folder]);
        Ranks.Run(CheckpointScenarios.SaveOnEveryMesh, [Folder], 2, Backend);
        Ranks.Run(CheckpointScenarios.SaveOnEveryMesh, [Folder], 4, Backend);
        Assert.That(
            Directory.GetDirectories(Path.Combine(Folder, "runs")).Select(Path.GetFileName),
            Is.EquivalentTo(["replica-1-x-expert-1", "replica-2-x-expert-1", "replica-1-x-expert-2", "replica-2-x-expert-2", "replica-1-x-expert-4"]));
    }

    [Test]
    public void Every_checkpoint_goes_on_on_one_process()
    {
        using var world = new SingleProcessGroup(TimeSpan.FromSeconds(10));
        CheckpointScenarios.LoadOnEveryMesh(world, [Folder]);
    }

    [Test]
    public void Every_checkpoint_goes_on_on_every_mesh([Values(2, 4)] int ranks) =>
        Ranks.Run(CheckpointScenarios.LoadOnEveryMesh, [Folder], ranks, Backend);
}

using Moe.Distributed;
using Moe.Tests.Distributed;
using Moe.Training.Checkpoints;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Optimizers whose steps are shared out among the ranks do what one process does, from any checkpoint.</summary>
public class ShardingTests : TinyRunTests
{
    // What a backend adds is in ShardedReductionTests.
    private static readonly string Backend = Ranks.Backends[0];
    private static readonly TimeSpan Timeout = TimeSpan.FromMinutes(2);

    [OneTimeSetUp]
    public void Train()
    {
        using var world = new SingleProcessGroup(TimeSpan.FromSeconds(10));
        ShardingScenarios.Train(world, [Folder]);
        Ranks.Run(ShardingScenarios.Train, [Folder], 2, Backend, Timeout);
        Ranks.Run(ShardingScenarios.Train, [Folder], 4, Backend, Timeout);
    }

    [Test]
    public void Every_checkpoint_goes_on_on_every_mesh_in_the_other_mode([Values(1, 2, 4)] int ranks)
    {
        if (ranks == 1)
        {
            using var world = new SingleProcessGroup(TimeSpan.FromSeconds(10));
            ShardingScenarios.GoOn(world, [Folder]);
        }
        else
        {
            Ranks.Run(ShardingScenarios.GoOn, [Folder], ranks, Backend, Timeout);
        }
    }

    [Test]
    public void Both_modes_write_the_same_checkpoint()
    {
        var shared = Directory.GetDirectories(Folder, "* shared");
        Assert.That(shared, Has.Length.EqualTo(4 * 2 * ShardingCase.All.Length));
        foreach (var run in shared)
        {
            var (one, other) = (Manifest(run), Manifest(run.Replace("shared", "whole", StringComparison.Ordinal)));
            if (Backend != "gloo" || !run.Contains("replica 2 x expert 2", StringComparison.Ordinal))
            {
                // Gloo's ring adds what more than two ranks send in another order than that of the ranks.
                Assert.That(one.Files, Is.EqualTo(other.Files), $"{run}: sizes and sums of all files");
            }

            Assert.That(one.Files.Keys, Is.EqualTo(other.Files.Keys), run);
            Assert.That(one.Tensors.Keys, Is.EqualTo(other.Tensors.Keys), run);
        }
    }

    [Test]
    public void NaN_stops_the_step_on_all_ranks() => Ranks.Run(ShardingScenarios.SkipTogether, [Folder], 2, Backend, Timeout);

    private static CheckpointManifest Manifest(string run) => CheckpointManifest.Read(new CheckpointFolder(run).Of(ShardingCase.StepsBefore));
}

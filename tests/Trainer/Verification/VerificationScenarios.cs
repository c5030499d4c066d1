using Moe.Distributed;
using Moe.Tests.Training;
using Moe.Training.Configuration;
using Moe.Training.Verification;
using NUnit.Framework;

namespace Moe.Tests.Verification;

/// <summary>What the ranks of <see cref="VerificationTests"/> do. Argument: folder.</summary>
internal static class VerificationScenarios
{
    /// <summary>Whole ranks are verified; ranks of which one trains otherwise are not, whatever it does otherwise.</summary>
    public static void FindWhatDiffers(ProcessGroup world, string[] arguments)
    {
        var config = TinyRun.Config(arguments[0]);
        config = config with { Optimizer = config.Optimizer with { Name = OptimizerName.AdamW, LearningRate = 1e-3 } };
        using var mesh = new DeviceMesh(world, config.Parallel.ExpertParallel ?? world.Size);
        var isLast = world.Rank == world.Size - 1;
        MustFind(config, null);
        MustFind(isLast ? config with { Run = new() { Seed = 2 } } : config, "gradient norm of step");
        MustFind(isLast ? config with { Balance = config.Balance with { Coefficient = 0.51 } } : config, "router");
        MustFind(isLast ? config with { Optimizer = config.Optimizer with { WeightDecay = 0.02 } } : config, "experts");

        void MustFind(RunConfig own, string? beyond)
        {
            List<string> lines = [];
            Assert.That(new MeshVerification(own, mesh, arguments[0], lines.Add).Run(), Is.EqualTo(beyond is null), string.Join('\n', lines));
            if (world.Rank == 0)
            {
                var named = lines.Where(line => line.EndsWith("BEYOND", StringComparison.Ordinal)).ToArray();
                Assert.That(named, beyond is null ? Is.Empty : Has.Some.Contains(beyond));
                // The headline of a trial names its worst parameter too; the table's lines are indented.
                var table = lines.Where(line => line.StartsWith("  ", StringComparison.Ordinal));
                Assert.That(
                    table.Count(line => line.Contains("layers.1.moe.experts.7.down", StringComparison.Ordinal)), Is.EqualTo(2), "each parameter of both trials");
            }

            Assert.That(Directory.Exists(Path.Combine(arguments[0], "verify")), Is.False);
        }
    }
}

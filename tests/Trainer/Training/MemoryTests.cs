using Moe.Tests.Distributed;
using Moe.Tests.Torch;
using Moe.Torch;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Whole steps that compute again what they did not keep.</summary>
public class MemoryTests : TinyRunTests
{
    private static IEnumerable<TestCaseData> Meshes => [new(1, Ranks.Backends[0]), new(2, Ranks.Backends[^1]), new(4, Ranks.Backends[0])];

    [TestCaseSource(nameof(Meshes))]
    public void Steps_are_those_of_keeping_everything(int ranks, string backend) =>
        Ranks.Run(MemoryScenarios.ComputeAgain, [Folder], ranks, backend, TimeSpan.FromMinutes(2));

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void A_rank_that_fails_is_told_by_what_others_compute_again(string backend)
    {
        var report = Ranks.Spawn(MemoryScenarios.StayAway, 2, backend, groupTimeout: TimeSpan.FromSeconds(2), arguments: Folder);
        Assert.That(report.Ranks[1].ExitCode, Is.EqualTo(RankScenario.Failed), report.ToString());
        if (backend == "gloo") // under MPI it is mpirun that notices, and ends the others
        {
            Assert.That(report.Ranks[0].ExitCode, Is.EqualTo(RankScenario.CommunicationFailed), report.ToString());
            Assert.That(report.Ranks[0].Output, Does.Contain("step 17, layer 1, moe.dispatch: all_to_all"), report.ToString());
        }
    }

    [Test]
    public void Kept_bytes_of_two_ranks_are_as_planned() => Ranks.Run(MemoryScenarios.KeepWhatIsPlanned, [Folder], 2, Ranks.Backends[0]);

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void Bytes_kept_of_what_passes_through_a_rank_are_as_planned(string backend) =>
        TestContext.Out.WriteLine(Ranks.Run(MemoryScenarios.KeepWhatPassesThrough, [Folder], 4, backend));

    [TestCase(Precision.Float32), TestCase(Precision.BFloat16), Category(Devices.Cuda)]
    public void Kept_bytes_of_a_gpu_are_as_planned(Precision precision)
    {
        Devices.DemandCuda();

        using var mesh = TinyRun.Alone();
        using var scope = new TensorScope();
        foreach (var recompute in new[] { Recompute.None, Recompute.Experts, Recompute.Block })
        {
            // Large enough that the allocator's rounding is little.
            var config = MemoryMeasurement.Config(Folder, recompute);
            config = config with
            {
                Model = config.Model with { Width = 256, Heads = 4, SequenceLength = 256, Moe = config.Model.Moe with { ExpertWidth = 128 } },
                Train = config.Train with { Precision = precision, MicroBatch = 8 },
                Parallel = config.Parallel with { Device = DeviceName.Cuda },
            };
            MemoryMeasurement.MustBeAsPlanned(config, mesh);
        }
    }

    [Test]
    public void Kept_bytes_of_one_rank_are_as_planned()
    {
        using var mesh = TinyRun.Alone();
        using var scope = new TensorScope();
        foreach (var precision in new[] { Precision.Float32, Precision.BFloat16, Precision.Float64 })
        {
            var kept = new List<long>();
            foreach (var (recompute, layers) in new (Recompute, int?)[]
            {
                (Recompute.None, null), (Recompute.Experts, 2), (Recompute.Experts, 4), (Recompute.Block, 2), (Recompute.Block, 4),
            })
            {
                var config = MemoryMeasurement.Config(Folder, recompute, layers);
                kept.Add(MemoryMeasurement.MustBeAsPlanned(config with { Train = config.Train with { Precision = precision } }, mesh));
                var peri = config with { Model = config.Model with { Norm = NormPlacement.Peri, QueryKeyNorm = true } };
                MemoryMeasurement.MustBeAsPlanned(peri with { Train = config.Train with { Precision = precision } }, mesh);
            }

            Assert.That(kept[1], Is.LessThan(kept[0]));
            Assert.That(kept[2], Is.LessThan(kept[1]));
            Assert.That(kept[4], Is.LessThan(kept[3]).And.LessThan(kept[2] / 2));
        }
    }

    [Test]
    public void Verification_holds_where_layers_are_computed_again() => Ranks.Run(MemoryScenarios.Verify, [Folder], 2, Ranks.Backends[0]);
}

using Moe.Tests.Distributed;
using Moe.Tests.Torch;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Checkpoints;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Experts that are stepped within backward (<c>optimizer.experts_in_backward</c>).</summary>
public class StepInBackwardTests : TinyRunTests
{
    private static IEnumerable<string> Cases => StepInBackwardCase.All.Select(one => one.Name);

    [Test]
    public void A_step_within_backward_has_the_bits_of_one_behind_it([ValueSource(nameof(Cases))] string name)
    {
        using var mesh = TinyRun.Alone();
        StepInBackwardScenarios.MustBeTheSame(StepInBackwardCase.All.Single(one => one.Name == name), mesh, name, config => config, Folder);
    }

    [Test]
    public void So_it_has_where_ranks_share_the_experts() => Ranks.Run(StepInBackwardScenarios.Compare, [Folder], 2, "gloo", TimeSpan.FromMinutes(3));

    [Test]
    public void A_run_goes_on_from_its_checkpoint_in_either_way([Values] bool before)
    {
        var checkpoints = Directory.CreateTempSubdirectory("moe-within-").FullName;
        try
        {
            using var mesh = TinyRun.Alone();
            var one = StepInBackwardCase.All[0];
            using var first = TinyRun.Session(one.Config(Folder, before), mesh, checkpoints);
            using var second = TinyRun.Session(one.Config(Folder, !before), mesh);
            first.Advance(stop: false);
            using (var checkpoint = new CheckpointReader(first.Save()))
            {
                second.Resume(checkpoint, warning => Assert.Fail(warning));
            }

            StepInBackwardCase.Train(first);
            StepInBackwardCase.Train(second);
            Assert.That(second.All(), Is.EqualTo(first.All()));
        }
        finally
        {
            Directory.Delete(checkpoints, recursive: true);
        }
    }

    [Test]
    public void Verification_compares_what_is_stepped_within_backward() => Ranks.Run(StepInBackwardScenarios.Verify, [Folder], 2, "gloo");

    [Test]
    public void A_step_that_cannot_be_left_out_ends_the_run_on_all_ranks() => Ranks.Run(StepInBackwardScenarios.EndTogether, [Folder], 2, "gloo");

    [Test, Category(Devices.Cuda)]
    public void A_device_steps_within_backward_as_behind_it()
    {
        Devices.DemandCuda();
        var device = Device.Cuda(0);
        CudaRuntime.Use(device);
        using var mesh = TinyRun.Alone();
        foreach (var one in StepInBackwardCase.All.Where(one => one.Name.StartsWith("adamw", StringComparison.Ordinal)))
        {
            List<(double Norm, long Bytes)> Train(bool inBackward)
            {
                using var session = new TrainingSession(one.Config(Folder, inBackward), mesh, new CheckpointFolder("nowhere"), TinyRun.SegmentSequences, device);
                return StepInBackwardCase.Train(session);
            }

            // The device's backward of attention adds up in no fixed order.
            var (behind, within) = (Train(false), Train(true));
            for (var step = 0; step < behind.Count; step++)
            {
                Assert.That(within[step].Norm, Is.EqualTo(behind[step].Norm).Within(5).Percent, $"{one.Name}: norm of step {step}");
                Assert.That(within[step].Bytes, Is.LessThan(behind[step].Bytes), one.Name);
            }
        }
    }
}

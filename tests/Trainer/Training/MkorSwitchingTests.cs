using Moe.Optimizers;
using Moe.Training;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>MKOR-H within a training: before and after its switch a checkpoint continues with the same bits.</summary>
public class MkorSwitchingTests : TinyRunTests
{
    private const int Early = 20;
    private const int Last = 80;

    private RunConfig Config
    {
        get
        {
            // Adam learns the letters' frequencies in the first tens of steps, and less and less from there on.
            var config = TinyRun.Config(Folder);
            return config with
            {
                Optimizer = config.Optimizer with
                {
                    Name = OptimizerName.AdamW,
                    LearningRate = 0.03,
                    Precondition = Precondition.MkorH,
                    Mkor = new() { InverseFrequency = 2, SwitchWindow = 10, SwitchTheta = 1 },
                },
            };
        }
    }

    [TestCase(Early)]
    [TestCase(Last - 1)]
    public void Checkpoint_continues_with_the_same_bits(int saved)
    {
        using var mesh = TinyRun.Alone();
        var folder = Path.Combine(Folder, $"saved-{saved}");
        using var whole = TinyRun.Session(Config, mesh, folder);
        List<long> switches = [];
        ((Mkor)whole.Optimizer).Switched += (step, _) => switches.Add(step);
        for (var step = 0; step < Last; step++)
        {
            if (step == saved)
            {
                whole.Save();
            }

            whole.Advance(stop: false);
        }

        Assert.That(switches, Has.Count.EqualTo(1).And.All.InRange(Early, Last - 2), "the run switches once, between the two checkpoints");
        using var continued = TinyRun.Session(Config, mesh, folder);
        using (var reader = new CheckpointReader(new CheckpointFolder(folder).Of(saved)))
        {
            continued.Resume(reader, Assert.Fail);
        }

        Assert.That(HasFactors(continued), Is.EqualTo(saved == Early));
        while (continued.Step < Last)
        {
            continued.Advance(stop: false);
        }

        Assert.That(HasFactors(continued), Is.False);
        Assert.That(continued.All(), Is.EqualTo(whole.All()));
    }

    [Test]
    public void Checkpoint_of_a_run_without_the_switch_is_refused()
    {
        using var mesh = TinyRun.Alone();
        var folder = Path.Combine(Folder, "without");
        using (var plain = TinyRun.Session(Config with { Optimizer = Config.Optimizer with { Precondition = Precondition.Mkor } }, mesh, folder))
        {
            plain.Advance(stop: false);
            plain.Save();
        }

        using var session = TinyRun.Session(Config, mesh, folder);
        using var reader = new CheckpointReader(new CheckpointFolder(folder).Of(1));
        Assert.That(() => session.Resume(reader, Assert.Fail), Throws.TypeOf<CheckpointException>().With.Message.Contains("other optimizer settings"));
    }

    private static bool HasFactors(TrainingSession session) => session.Optimizer.State.Any(state => state.Name.StartsWith("mkor", StringComparison.Ordinal));
}

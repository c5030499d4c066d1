using Moe.Tests.Torch;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

[TestFixture, Category(Devices.Cuda)]
public sealed class CapturedStepTests
{
    private const int Steps = 8;

    private string? _folder;

    [SetUp]
    public void WriteText()
    {
        Devices.DemandCuda();

        _folder = Directory.CreateTempSubdirectory("moe-captured-").FullName;
        TinyRun.WriteText(_folder, seed: 1);
    }

    [TearDown]
    public void Remove()
    {
        if (_folder is not null)
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    [TestCase(OptimizerName.Sgd, 0), TestCase(OptimizerName.AdamW, 1), TestCase(OptimizerName.Muon, 1)]
    public void A_captured_step_is_the_step(OptimizerName optimizer, double clipNorm)
    {
        var config = TinyRun.Config(_folder!) with { Optimizer = new() { Name = optimizer, LearningRate = 0.01 } };
        config = config with
        {
            Train = config.Train with { ClipNorm = clipNorm, Precision = Precision.BFloat16 },
            Model = config.Model with { Moe = config.Model.Moe with { ExpertWidth = 16 } },
        };

        var plain = Run(config);
        var captured = Run(config with { Train = config.Train with { GraphCapture = true } });

        // The device's backward of attention adds up in no fixed order, so that two runs of anything differ by roundings of bfloat16.
        for (var step = 0; step < Steps; step++)
        {
            Assert.That(captured[step].Loss, Is.EqualTo(plain[step].Loss).Within(0.5).Percent, $"loss of step {step}");
            Assert.That(captured[step].GradientNorm, Is.EqualTo(plain[step].GradientNorm).Within(5).Percent, $"norm of step {step}");
            Assert.That(captured[step].Load.Counts.Sum(), Is.EqualTo(plain[step].Load.Counts.Sum()), $"load of step {step}");
        }

        Assert.That(captured.Select(step => step.Loss).Distinct().Count(), Is.EqualTo(Steps), "each step has tokens of its own");
        Assert.That(captured[0].Load.Counts, Is.EqualTo(plain[0].Load.Counts));
    }

    private static StepResult[] Run(RunConfig config)
    {
        using var mesh = TinyRun.Alone();
        var device = Device.Cuda(0);
        CudaRuntime.Use(device);
        using var session = new TrainingSession(config, mesh, new CheckpointFolder("nowhere"), TinyRun.SegmentSequences, device);
        return [.. Enumerable.Range(0, Steps).Select(_ => session.Advance(stop: false))];
    }
}

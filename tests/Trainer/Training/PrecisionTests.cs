using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Losses of trainings in bfloat16 against the same ones in float32.</summary>
public sealed class PrecisionTests : TinyRunTests
{
    private const int Steps = 200;
    private const int Window = 20;

    private static readonly TestCaseData[] Narrower =
    [
        new TestCaseData((TrainConfig train) => train with { Precision = Precision.BFloat16 }, (OptimizerConfig optimizer) => optimizer).SetArgDisplayNames("computed in bfloat16"),
        new TestCaseData(
            (TrainConfig train) => train with { Precision = Precision.BFloat16, Weights = StoredType.BFloat16 },
            (OptimizerConfig optimizer) => optimizer).SetArgDisplayNames("stored in bfloat16, with masters"),
        new TestCaseData(
            (TrainConfig train) => train with { Precision = Precision.BFloat16, Weights = StoredType.BFloat16 },
            (OptimizerConfig optimizer) => optimizer with { MasterWeights = false, StateType = StoredType.BFloat16, ExpertsInBackward = true })
            .SetArgDisplayNames("all in bfloat16, experts stepped within backward"),
    ];

    // Trainings part from each other whatever they are rounded by, float32 in another order too: so the mean of several, over some steps.
    [TestCaseSource(nameof(Narrower))]
    public void Curve_of_200_steps_in_bfloat16_stays_within_a_hundredth_of_float32(
        Func<TrainConfig, TrainConfig> train, Func<OptimizerConfig, OptimizerConfig> optimizer)
    {
        var (single, narrow) = (new double[Steps / Window], new double[Steps / Window]);
        foreach (var seed in new ulong[] { 1, 2, 3, 4 })
        {
            var config = TinyRun.Config(Folder, seed);
            config = config with
            {
                Optimizer = new() { Name = OptimizerName.AdamW, LearningRate = 0.003 },
                Train = config.Train with { Steps = Steps },
            };
            Add(single, config);
            Add(narrow, config with { Train = train(config.Train), Optimizer = optimizer(config.Optimizer) });
        }

        Assert.That(single[^1], Is.LessThan(0.75 * single[0]), "it learns");
        for (var i = 0; i < single.Length; i++)
        {
            Assert.That(narrow[i], Is.EqualTo(single[i]).Within(1).Percent, $"steps {Window * i} to {(Window * (i + 1)) - 1}");
        }
    }

    private static void Add(double[] sums, RunConfig config)
    {
        using var mesh = TinyRun.Alone();
        using var session = TinyRun.Session(config, mesh);
        for (var step = 0; step < Steps; step++)
        {
            sums[step / Window] += session.Advance(stop: false).Loss;
        }
    }
}

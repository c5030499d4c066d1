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
        Case("computed in bfloat16", config => config with { Train = config.Train with { Precision = Precision.BFloat16 } }),
        Case("stored in bfloat16, with masters", Stored),
        Case("all in bfloat16, experts stepped within backward", config => Stored(config) with
        {
            Optimizer = config.Optimizer with { MasterWeights = false, StateType = StoredType.BFloat16, ExpertsInBackward = true },
        }),
    ];

    private double[]? _single;

    [TestCaseSource(nameof(Narrower))]
    public void Curve_of_200_steps_in_bfloat16_stays_within_a_hundredth_of_float32(Func<RunConfig, RunConfig> change)
    {
        var single = _single ??= Curve(config => config);
        var narrow = Curve(change);
        Assert.That(single[^1], Is.LessThan(0.75 * single[0]), "it learns");
        for (var i = 0; i < single.Length; i++)
        {
            Assert.That(narrow[i], Is.EqualTo(single[i]).Within(1).Percent, $"steps {Window * i} to {(Window * (i + 1)) - 1}");
        }
    }

    private static TestCaseData Case(string name, Func<RunConfig, RunConfig> change) => new TestCaseData(change).SetArgDisplayNames(name);

    private static RunConfig Stored(RunConfig config) => config with { Train = config.Train with { Precision = Precision.BFloat16, Weights = StoredType.BFloat16 } };

    // Trainings part from each other whatever they are rounded by, float32 in another order too: so the sums of several, over some steps.
    private double[] Curve(Func<RunConfig, RunConfig> change)
    {
        var sums = new double[Steps / Window];
        for (ulong seed = 1; seed <= 4; seed++)
        {
            var config = TinyRun.Config(Folder, seed);
            config = config with
            {
                Optimizer = new() { Name = OptimizerName.AdamW, LearningRate = 0.003 },
                Train = config.Train with { Steps = Steps },
            };
            using var mesh = TinyRun.Alone();
            using var session = TinyRun.Session(change(config), mesh);
            for (var step = 0; step < Steps; step++)
            {
                sums[step / Window] += session.Advance(stop: false).Loss;
            }
        }

        return sums;
    }
}

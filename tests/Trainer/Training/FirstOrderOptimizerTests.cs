using Moe.Optimizers;
using Moe.Torch;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>AdaBelief, LAMB and LARS as a configuration names them, in a run.</summary>
public class FirstOrderOptimizerTests : TinyRunTests
{
    private RunConfig Config => TinyRun.Config(Folder);

    [TestCase(OptimizerName.AdaBelief, typeof(AdaBelief))]
    [TestCase(OptimizerName.Lamb, typeof(Lamb))]
    [TestCase(OptimizerName.Lars, typeof(Lars))]
    public void Every_parameter_is_stepped_and_stays_finite(OptimizerName name, Type type)
    {
        using var mesh = TinyRun.Alone();
        var optimizer = Config.Optimizer with { Name = name, LearningRate = 0.01, WeightDecay = 0.1, Momentum = 0.9 };
        using var session = TinyRun.Session(Config with { Optimizer = optimizer }, mesh);
        var before = session.Model.Parameters.ToDictionary(parameter => parameter.Name, parameter => parameter.Value.Span<float>().ToArray());
        session.Advance(stop: false);
        session.Advance(stop: false);

        Assert.That(session.Optimizer, Is.TypeOf(type));
        foreach (var parameter in session.Model.Parameters)
        {
            var after = parameter.Value.Span<float>().ToArray();
            Assert.That(after, Is.Not.EqualTo(before[parameter.Name]).And.All.Matches<float>(float.IsFinite), parameter.Name);
        }
    }

    [Test]
    public void Settings_of_the_configuration_reach_the_step([Values("clip", "trust", "bias", "decay")] string setting)
    {
        var lamb = setting switch
        {
            "clip" => new LambConfig { MaxGradientNorm = 1e-6 },
            "trust" => new LambConfig { AlwaysAdapt = true },
            "bias" => new LambConfig { BiasCorrection = false },
            _ => new LambConfig { Decay = LambDecay.Weights },
        };
        Assert.That(Embedding(lamb), Is.Not.EqualTo(Embedding(new LambConfig())));
    }

    private float[] Embedding(LambConfig lamb)
    {
        using var mesh = TinyRun.Alone();
        var optimizer = Config.Optimizer with { Name = OptimizerName.Lamb, LearningRate = 0.01, WeightDecay = 0.1, Lamb = lamb };
        using var session = TinyRun.Session(Config with { Optimizer = optimizer }, mesh);
        session.Advance(stop: false);
        session.Advance(stop: false);
        return session.Model.Parameters.Single(parameter => parameter.Kind == ParameterKind.Embedding).Value.Span<float>().ToArray();
    }
}

using Moe.Optimizers;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Optimizers put together by rules, as a run steps and resumes them.</summary>
public class OptimizerAssemblyTests : TinyRunTests
{
    private RunConfig Config => TinyRun.Config(Folder);

    private RunConfig Mixed => Config with
    {
        Optimizer = Config.Optimizer with
        {
            Rules =
            [
                new() { Kind = ParameterKind.Router, Optimizer = OptimizerName.AdamW, LearningRate = 1e-3 },
                new() { Match = "layers.1.moe.experts.3.*", LearningRate = 0.25 },
            ],
        },
    };

    [Test]
    public void Parts_have_stable_names_their_own_rates_and_every_parameter_once()
    {
        using var mesh = TinyRun.Alone();
        using var session = TinyRun.Session(Mixed, mesh);
        var groups = ((CompositeOptimizer)session.Optimizer).Groups;

        Assert.That(groups.Select(group => (group.Name, group.RateFactor)), Is.EqualTo(new[] { ("sgd", 1), ("adamw", 1e-3 / 0.5), ("sgd-2", 0.5) }));
        var parameters = groups.Select(group => ((MultiTensorOptimizer)group.Optimizer).Parameters.Select(parameter => parameter.Key).ToList()).ToList();
        Assert.That(parameters[1], Is.EquivalentTo(new[] { "layers.0.moe.router", "layers.1.moe.router" }));
        Assert.That(parameters[2], Is.EquivalentTo(new[] { "gate", "up", "down" }.Select(part => $"layers.1.moe.experts.3.{part}")));
        using var scope = new TensorScope();
        Assert.That(
            parameters.SelectMany(keys => keys),
            Is.EquivalentTo(session.Model.Parameters.SelectMany(parameter => parameter.Logical(parameter.Value.Detach())).Select(logical => logical.Key)));
    }

    [Test]
    public void Ranks_with_other_experts_come_to_the_same_cost()
    {
        using var scope = new TensorScope();
        var config = Config with { Optimizer = new() { Rules = [new() { Match = "layers.1.moe.experts.3.gate", Optimizer = OptimizerName.Muon }] } };
        var cost = OptimizerAssembly.Reduction(config).Cost!;
        Parameter Stack(int layer, params int[] experts) => new(
            $"layers.{layer}.moe.experts.gate_up", Tensor.Zeros([experts.Length, 24, 16]), ParameterKind.Expert, experts, [new("gate", 0, 12), new("up", 12, 12)]);

        Assert.That(cost(Stack(1, 0, 1, 2, 3)), Is.EqualTo(cost(Stack(1, 4, 5, 6, 7))).And.GreaterThan(cost(Stack(0, 0, 1, 2, 3))));
    }

    [Test]
    public void Rate_of_a_rule_is_what_its_parameters_move_by()
    {
        using var mesh = TinyRun.Alone();
        var plain = Config.Optimizer with { Momentum = 0, WeightDecay = 0 };
        var (whole, half) = (Moves(plain), Moves(plain with { Rules = [new() { Match = "head", LearningRate = 0.25 }] }));

        Assert.That(half["head"], Is.EqualTo(whole["head"] / 2).Within(1e-4).Percent);
        Assert.That(half["embedding"], Is.EqualTo(whole["embedding"]));

        Dictionary<string, double> Moves(OptimizerConfig optimizer)
        {
            using var session = TinyRun.Session(Config with { Optimizer = optimizer }, mesh);
            var before = session.Model.Parameters.ToDictionary(parameter => parameter.Name, parameter => parameter.Value.Span<float>().ToArray());
            session.Advance(stop: false);
            return session.Model.Parameters.ToDictionary(
                parameter => parameter.Name,
                parameter => Math.Sqrt(parameter.Value.Span<float>().ToArray().Zip(before[parameter.Name], (now, then) => Math.Pow(now - then, 2)).Sum()));
        }
    }

    [Test]
    public void Resumed_parts_continue_to_the_same_bits()
    {
        using var mesh = TinyRun.Alone();
        var folder = Path.Combine(Folder, "mixed");
        using var straight = TinyRun.Session(Mixed, mesh, folder);
        straight.Advance(stop: false);
        var checkpoint = straight.Save();
        using var resumed = TinyRun.Session(Mixed, mesh);
        using (var reader = new CheckpointReader(checkpoint))
        {
            resumed.Resume(reader, Assert.Fail);
        }

        Assert.That(resumed.Advance(stop: false).Loss, Is.EqualTo(straight.Advance(stop: false).Loss));
        Assert.That(resumed.Advance(stop: false).Loss, Is.EqualTo(straight.Advance(stop: false).Loss));
    }

    [TestCase(OptimizerName.Muon)]
    [TestCase(OptimizerName.DropMuon)]
    public void Checkpoint_of_the_other_form_of_momentum_is_refused(OptimizerName name)
    {
        using var mesh = TinyRun.Alone();
        RunConfig With(MuonPreset preset) => Config with { Optimizer = new() { Name = name, Muon = new() { Preset = preset } } };
        using var session = TinyRun.Session(With(MuonPreset.Keller), mesh, Path.Combine(Folder, $"form {name}"));
        session.Advance(stop: false);
        using var reader = new CheckpointReader(session.Save());
        using var same = TinyRun.Session(With(MuonPreset.Torch), mesh);
        using var other = TinyRun.Session(With(MuonPreset.Moonlight), mesh);

        Assert.That(() => same.Resume(reader, Assert.Fail), Throws.Nothing);
        Assert.That(() => other.Resume(reader, Assert.Fail), Throws.TypeOf<CheckpointException>().With.Message.EndsWith("have the momentum form Ema, the settings ask for Sum"));
    }

    [Test]
    public void Checkpoint_whose_parameters_had_other_optimizers_is_refused_with_those_that_moved()
    {
        using var mesh = TinyRun.Alone();
        using var session = TinyRun.Session(Mixed, mesh, Path.Combine(Folder, "moved"));
        session.Advance(stop: false);
        var checkpoint = session.Save();
        using var other = TinyRun.Session(Mixed with { Optimizer = Mixed.Optimizer with { Rules = [new() { Match = "layers.0.moe.router", Optimizer = OptimizerName.AdamW }] } }, mesh);
        using var reader = new CheckpointReader(checkpoint);

        Assert.That(
            () => other.Resume(reader, Assert.Fail),
            Throws.TypeOf<CheckpointException>().With.Message.EndsWith("gives them: layers.1.moe.router was stepped by adamw, now sgd"));
    }
}

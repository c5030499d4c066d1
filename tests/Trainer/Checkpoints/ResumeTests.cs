using Moe.Distributed;
using Moe.Tests.Training;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Checkpoints;

/// <summary>What a checkpoint demands of the configuration that continues it. The checkpoint has eight sequences a step.</summary>
public class ResumeTests : TinyRunTests
{
    private SingleProcessGroup _world = null!;
    private ResumeSource _source = null!;
    private List<string> _warnings = null!;

    private RunConfig Config => TinyRun.Config(Folder);

    [OneTimeSetUp]
    public void Save()
    {
        using var mesh = TinyRun.Alone();
        using var session = TinyRun.Session(Config, mesh, Path.Combine(Folder, "checkpoints"));
        session.Advance(stop: false);
        session.Save();
    }

    [SetUp]
    public void OpenSource()
    {
        _warnings = [];
        _world = new SingleProcessGroup(TimeSpan.FromSeconds(10));
        _source = ResumeSource.Choose("auto", new CheckpointFolder(Path.Combine(Folder, "checkpoints")), _world, Assert.Fail)!;
    }

    [TearDown]
    public void CloseSource()
    {
        _source.Dispose();
        _world.Dispose();
    }

    [TestCase(1, 8, 1, 1)]
    [TestCase(2, 4, 1, 1)]
    [TestCase(2, 2, 1, 2)]
    [TestCase(1, 1, 1, 8)]
    [TestCase(4, 2, 3, 1)]
    public void Accumulation_is_adapted_so_that_the_global_batch_stays(int ranks, int microBatch, int accumulation, int expected)
    {
        var adapted = Continuation.Adapt(_source.Checkpoint.Manifest.Position, With(microBatch, accumulation), ranks, _warnings.Add);

        var balance = adapted.Balance;
        Assert.That(adapted with { Balance = Config.Balance }, Is.EqualTo(With(microBatch, expected)), "nothing else changes");
        Assert.That(_warnings, Has.Count.EqualTo(accumulation == expected ? 0 : 1));
        Assert.That(
            balance, Is.EqualTo(Config.Balance with { Accumulation = accumulation == 1 && expected > 1 ? BalanceAccumulation.Exact : BalanceAccumulation.Running }),
            "one micro-step that becomes several is balanced by the whole batch still");
    }

    [Test]
    public void Ranks_that_cannot_make_the_global_batch_are_refused_with_the_numbers() => Assert.That(
        () => Continuation.Adapt(_source.Checkpoint.Manifest.Position, With(2, 1), 3, _warnings.Add),
        Throws.TypeOf<CheckpointException>().With.Message.Contains("8 sequences a step; 3 rank(s) of train.micro_batch=2 make 6"));

    [Test]
    public void Ranks_that_would_need_several_micro_steps_are_refused_where_experts_are_stepped_within_backward()
    {
        var config = With(4, 1) with { Optimizer = Config.Optimizer with { ExpertsInBackward = true } };

        Assert.That(Continuation.Adapt(_source.Checkpoint.Manifest.Position, config, 2, Assert.Fail), Is.EqualTo(config));
        Assert.That(
            () => Continuation.Adapt(_source.Checkpoint.Manifest.Position, config, 1, _warnings.Add),
            Throws.TypeOf<CheckpointException>().With.Message.Contains("make in 2 micro-steps, but optimizer.experts_in_backward").And.Message.Contains("set train.micro_batch=8"));
    }

    [Test]
    public void Global_batch_changes_where_the_user_says_so()
    {
        var config = With(2, 1);
        config = config with { Train = config.Train with { KeepGlobalBatch = false } };
        Assert.That(Continuation.Adapt(_source.Checkpoint.Manifest.Position, config, 3, Assert.Fail), Is.EqualTo(config));
    }

    [Test]
    public void Another_optimizer_is_refused() => Refuse(Config with { Optimizer = new() { Name = OptimizerName.AdamW } }, "optimizer Sgd", "AdamW");

    [Test]
    public void Wider_model_is_refused_with_the_tensor_and_both_shapes() =>
        Refuse(Config with { Model = Config.Model with { Width = 32 } }, "'embedding' has shape [256, 16]", "[256, 32]");

    [Test]
    public void Deeper_model_is_refused_with_the_missing_tensor() =>
        Refuse(Config with { Model = Config.Model with { Layers = 3 } }, "has no tensor 'layers.2.");

    [Test]
    public void Another_seed_is_warned_of()
    {
        Resume(Config with { Run = new() { Seed = 2 } });
        Assert.That(_warnings, Has.One.Items.And.One.Contains("trained with seed 1; with seed 2"));
    }

    [Test]
    public void Another_text_is_warned_of()
    {
        var other = Directory.CreateDirectory(Path.Combine(Folder, "other")).FullName;
        TinyRun.WriteText(other, Random.Shared.Next(1 << 30));
        Resume(Config with { Data = TinyRun.Config(other).Data });
        Assert.That(_warnings, Has.One.Items.And.One.Contains("domain 'words'"));
    }

    private RunConfig With(int microBatch, int accumulation) =>
        Config with { Train = Config.Train with { MicroBatch = microBatch, Accumulation = accumulation } };

    private void Refuse(RunConfig config, params string[] words)
    {
        var refusal = Assert.Throws<CheckpointException>(() => Resume(config))!;
        foreach (var word in words)
        {
            Assert.That(refusal.Message, Does.Contain(word));
        }
    }

    private void Resume(RunConfig config)
    {
        using var mesh = TinyRun.Alone();
        using var session = TinyRun.Session(config, mesh);
        session.Resume(_source.Checkpoint, _warnings.Add);
    }
}

using Moe.Tests.Distributed;
using Moe.Tests.Training;
using Moe.Torch;
using Moe.Training.Configuration;
using Moe.Training.Verification;
using NUnit.Framework;

namespace Moe.Tests.Verification;

public class VerificationTests : TinyRunTests
{
    [Test]
    public void Rank_that_trains_otherwise_is_found([Values(2, 4)] int ranks) =>
        Ranks.Run(VerificationScenarios.FindWhatDiffers, [Folder], ranks, Ranks.Backends[0]);

    [Test]
    public void Difference_is_relative_to_the_largest_entry_of_the_reference()
    {
        using var scope = new TensorScope();
        var reference = Tensor.From([-4.0, 1, 0]);
        Assert.That(Difference.Of("x", Tensor.From([-4.0, 1, 0]), reference).Relative, Is.Zero);
        Assert.That(Difference.Of("x", Tensor.From([-4.0, 1.5, 0.25]), reference).Relative, Is.EqualTo(0.125));
        Assert.That(Difference.Of("x", Tensor.From([-4.0, double.NaN, 0]), reference).Relative, Is.NaN);
        Assert.That(Difference.Of("x", double.NaN, 1).Order, Is.EqualTo(double.PositiveInfinity), "what is no number is the worst");
        Assert.That(Difference.Of("x", 3, 2).Relative, Is.EqualTo(0.5));
    }

    [Test]
    public void Small_run_shares_its_steps_as_the_user_s_does([Values] bool shard)
    {
        var config = TinyRun.Config(Folder);
        var shrunk = ShrunkConfig.Of(config with { Parallel = config.Parallel with { ShardOptimizer = shard } }, 2);
        Assert.That(Trial.Of(shrunk).Select(trial => trial.Config.Parallel.ShardOptimizer), Is.All.EqualTo(shard));
    }

    [Test]
    public void Bounds_are_those_of_the_precision([Values] Precision precision)
    {
        var config = TinyRun.Config(Folder);
        var trials = Trial.Of(config with { Train = config.Train with { Precision = precision } });
        Assert.That(trials.Select(trial => trial.Bound), Is.EqualTo([precision == Precision.Float64 ? 1e-9 : precision == Precision.Float32 ? 1e-5 : 2e-2, 1e-9]));
        Assert.That(trials[1].Config.Train.Precision, Is.EqualTo(Precision.Float64));
        Assert.That(trials[1].Config.Parallel.Dispatcher, Is.EqualTo(DispatcherName.AllGather));
        Assert.That(trials[0].Config.Optimizer.Name, Is.EqualTo(OptimizerName.Sgd));
    }

    [Test]
    public void Weights_in_bfloat16_have_a_comparison_of_their_own()
    {
        var config = TinyRun.Config(Folder);
        config = config with
        {
            Train = config.Train with { Precision = Precision.BFloat16, Weights = StoredType.BFloat16 },
            Optimizer = config.Optimizer with { Name = OptimizerName.AdamW },
        };
        var trials = Trial.Of(config);
        Assert.That(trials.Select(trial => trial.Config.Train.Weights), Is.EqualTo([StoredType.Float32, StoredType.Float32, StoredType.BFloat16]));
        Assert.That(trials[2].Config.Model.Moe.TopK, Is.EqualTo(config.Model.Moe.Experts), "no near tie decides");
        Assert.That((trials[2].Bound, trials[2].Config.Optimizer.Name), Is.EqualTo((2e-2, OptimizerName.Sgd)));
    }
}

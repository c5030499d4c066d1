using Moe.Distributed;
using Moe.Tests.Distributed;
using Moe.Torch;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

public class BalancingTests : TinyRunTests
{
    [Test]
    public void Running_and_exact_counts_follow_their_definitions_on_one_process()
    {
        using var world = new SingleProcessGroup(TimeSpan.FromSeconds(10));
        BalancingScenarios.FollowTheirDefinitions(world, [Folder]);
    }

    [Test]
    public void Running_and_exact_counts_follow_their_definitions_on_four_ranks() =>
        Ranks.Run(BalancingScenarios.FollowTheirDefinitions, [Folder], 4, Ranks.Backends[0]);

    [Test]
    public void Balance_loss_is_one_where_all_experts_are_scored_alike([Values(BalanceScope.Micro, BalanceScope.Sequence, BalanceScope.Global)] BalanceScope scope)
    {
        // P is 1 / E everywhere, so E * sum f_i P_i = sum f_i, however the ties are broken.
        using var mesh = TinyRun.Alone();
        var config = TinyRun.Config(Folder);
        using var session = TinyRun.Session(config with { Balance = config.Balance with { Scope = scope } }, mesh);
        using (Autograd.NoGrad())
        {
            foreach (var parameter in session.Model.Parameters.Where(parameter => parameter.Kind == ParameterKind.Router))
            {
                parameter.Value.Zero_();
            }
        }

        Assert.That(session.Advance(stop: false).BalanceLoss, Is.EqualTo(1).Within(1e-6));
    }

    [Test]
    public void Selection_bias_steps_against_the_load_of_the_whole_step()
    {
        using var mesh = TinyRun.Alone();
        var config = TinyRun.Config(Folder);
        using var session = TinyRun.Session(
            config with { Balance = new() { Scope = BalanceScope.None, BiasRate = 0.25 }, Train = config.Train with { Accumulation = 2 } }, mesh);
        using var scope = new TensorScope();
        var counts = session.Advance(stop: false).Load.ToTensor();
        foreach (var (layer, bias) in session.Model.SelectionBiases.Index())
        {
            var chosen = counts.Select(0, layer).ToArray<long>();
            var even = 2 * TinyRun.Tokens * config.Model.Moe.TopK / config.Model.Moe.Experts;
            Assert.That(bias.Value.ToArray<float>(), Is.EqualTo(chosen.Select(count => 0.25f * Math.Sign(even - count))), bias.Key);
        }
    }
}

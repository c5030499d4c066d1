using System.Globalization;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

[TestFixtureSource(typeof(Ranks), nameof(Ranks.Backends))]
public class ShardedReductionTests(string backend)
{
    [TestCase(2, 2)]
    [TestCase(3, 1)]
    [TestCase(4, 2)]
    public void Steps_on_shares_are_the_steps_on_all(int ranks, int expertParallel)
    {
        var seed = Random.Shared.Next(1 << 30);
        TestContext.Out.WriteLine($"seed {seed}");
        string[] arguments = [seed.ToString(CultureInfo.InvariantCulture), expertParallel.ToString(CultureInfo.InvariantCulture)];
        Ranks.Run(ShardedReductionScenarios.StepAsOne, arguments, ranks, backend);
    }

    [Test]
    public void NaN_of_any_owner_is_named_on_all_ranks() => Ranks.Run(ShardedReductionScenarios.NameNotFinite, 4, backend);

    [Test]
    public void Frozen_layers_are_neither_sent_nor_measured() => Ranks.Run(ShardedReductionScenarios.LeaveFrozenAlone, 2, backend);
}

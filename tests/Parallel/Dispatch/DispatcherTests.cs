using System.Globalization;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

[TestFixtureSource(typeof(Ranks), nameof(Ranks.Backends))]
public class DispatcherTests(string backend)
{
    private string[] _seed = [];

    [SetUp]
    public void Draw()
    {
        _seed = [Random.Shared.Next(1 << 30).ToString(CultureInfo.InvariantCulture)];
        TestContext.Out.WriteLine($"seed {_seed[0]}");
    }

    [Test]
    public void All_to_all_and_all_gather_follow_the_definition([Range(1, 4)] int ranks) =>
        Ranks.Run(DispatcherScenarios.CompareWithDefinition, _seed, ranks, backend);

    [Test]
    public void Four_ranks_have_the_bits_of_one() => Ranks.Run(DispatcherScenarios.CompareWithOneRank, _seed, 4, backend);

    [Test]
    public void Over_nodes_the_definition_holds_too_and_a_token_goes_once_to_a_node() => Ranks.Run(DispatcherScenarios.GoOverNodes, _seed, 4, backend);

    [Test]
    public void No_tensor_outlives_its_step() => Ranks.Run(DispatcherScenarios.CountTensors, 2, backend);

    [Test]
    public void Rows_travel_four_times_and_counts_once() => Ranks.Run(DispatcherScenarios.CountCollectives, 2, backend);

    [Test]
    public void A_token_goes_once_to_a_rank_however_many_of_its_experts_are_there() => Ranks.Run(DispatcherScenarios.CountBytes, _seed, 3, backend);

    [Test]
    public void A_lost_rank_is_reported_with_layer_and_phase()
    {
        var report = Ranks.Spawn(DispatcherScenarios.LoseARank, 2, backend, groupTimeout: TimeSpan.FromSeconds(5));
        Assert.That(report.Succeeded, Is.False);
        Assert.That(report.Leftovers, Is.Zero);
        if (backend == "gloo")
        {
            // mpirun ends the other ranks before they can say anything.
            Assert.That(report.Ranks[1].Output, Does.Contain("layer 3, moe."));
        }
    }
}

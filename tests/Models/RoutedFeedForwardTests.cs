using System.Globalization;
using Moe.Tests.Distributed;
using NUnit.Framework;

namespace Moe.Tests.Models;

/// <summary>Dispatch, experts and combine as one function whose exchanges are laid over its work.</summary>
[TestFixtureSource(typeof(Ranks), nameof(Ranks.Backends))]
public class RoutedFeedForwardTests(string backend)
{
    private string[] _seed = [];

    [SetUp]
    public void Draw()
    {
        _seed = [Random.Shared.Next(1 << 30).ToString(CultureInfo.InvariantCulture)];
        TestContext.Out.WriteLine($"seed {_seed[0]}");
    }

    [Test]
    public void Chunks_and_blocks_compute_what_the_steps_one_after_another_do() =>
        Ranks.Run(RoutedFeedForwardScenarios.CompareWithStepwise, _seed, 4, backend);

    [Test]
    public void Chunks_change_results_by_rounding_only_share_an_exchange_of_sizes_and_leave_no_tensor() =>
        Ranks.Run(RoutedFeedForwardScenarios.CutIntoChunks, _seed, 2, backend);

    [Test]
    public void A_rank_short_of_memory_works_in_blocks_and_the_others_as_ever() => Ranks.Run(RoutedFeedForwardScenarios.WorkInBlocks, _seed, 3, backend);

    [Test]
    public void A_rank_that_has_no_memory_says_so_before_a_row_moves()
    {
        var report = Ranks.Spawn(RoutedFeedForwardScenarios.HasNoMemory, 3, backend, groupTimeout: TimeSpan.FromSeconds(5));
        Assert.That(report.TimedOut, Is.False, report.ToString());
        Assert.That(report.Leftovers, Is.Zero, report.ToString());
        Assert.That(report.Ranks[1].ExitCode, Is.EqualTo(RankScenario.Failed), report.ToString());
        Assert.That(report.Ranks[1].Output, Does.Contain("layers.3.moe: 600 tokens with 600 choices would come to this rank's 1 expert(s), where an even load is 200 choices"));
        Assert.That(report.Ranks[1].Output, Does.Contain("0.1 MiB are free"));
        if (backend == "gloo")
        {
            // mpirun ends the other ranks before they can say anything.
            Assert.That(report.Ranks[0].ExitCode, Is.EqualTo(RankScenario.CommunicationFailed), report.ToString());
            Assert.That(report.Ranks[0].Output, Does.Contain("layer 3, moe."), report.ToString());
        }
    }
}

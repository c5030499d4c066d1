using System.Globalization;
using System.Text.RegularExpressions;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

public sealed partial class FailureTests
{
    private static readonly TimeSpan GroupTimeout = TimeSpan.FromSeconds(2);

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void A_rank_that_never_comes_is_told_by_the_others_in_time(string backend)
    {
        var report = Ranks.Spawn(FailureScenarios.NeverComes, 4, backend, groupTimeout: GroupTimeout);
        AssertFailed(report);
        foreach (var rank in report.Ranks.Where(rank => rank.Rank != FailureScenarios.Culprit))
        {
            Assert.That(rank.ExitCode, Is.EqualTo(RankScenario.CommunicationFailed), report.ToString());
            Assert.That(rank.Output, Does.Contain($"rank {rank.Rank}, {rank.Rank} of 4 in {backend} group 'world', step 17, layer 3, dispatch: all_to_all of"));
            var rows = rank.Rank + 1;
            Assert.That(rank.Output, Does.Contain($"rows to each rank [{rows}, {rows}, {rows}, {rows}], rows from each rank [1, 2, 3, 4]"));
            var seconds = double.Parse(Elapsed().Match(rank.Output).Groups[1].Value, CultureInfo.InvariantCulture);
            Assert.That(seconds, Is.LessThan(3), report.ToString());
        }

        // The first one's farewell is what the others may learn it from.
        Assert.That(report.Ranks.Any(rank => rank.Output.Contains("not finished within 2 s", StringComparison.Ordinal)), Is.True, report.ToString());
    }

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void Several_operations_in_flight_don_t_add_their_time_outs_up(string backend)
    {
        var report = Ranks.Spawn(FailureScenarios.NeverComesWithSeveralInFlight, 4, backend, groupTimeout: GroupTimeout);
        AssertFailed(report);
        Assert.That(report.Elapsed, Is.LessThan(GroupTimeout * 3 + TimeSpan.FromSeconds(4)), report.ToString());
    }

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void A_killed_rank_ends_the_job_at_once(string backend)
    {
        var report = Ranks.Spawn(FailureScenarios.DiesInAnAllToAll, 4, backend);
        AssertFailed(report);
        Assert.That(report.Elapsed, Is.LessThan(TimeSpan.FromSeconds(15)), report.ToString());
        Assert.That(report.Ranks.Select(rank => rank.ExitCode), Has.None.EqualTo(0), report.ToString());
        if (backend == "gloo") // under MPI it is mpirun that notices, and ends the others
        {
            Assert.That(report.Ranks[0].Output, Does.Contain("step 17, layer 3, dispatch: all_to_all").And.Contain("[65536, 65536, 65536, 65536]"));
        }
    }

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void A_rank_that_throws_ends_without_waiting_for_anyone(string backend)
    {
        var report = Ranks.Spawn(FailureScenarios.ThrowsInTheMiddle, 4, backend);
        AssertFailed(report);
        Assert.That(report.Elapsed, Is.LessThan(TimeSpan.FromSeconds(15)), report.ToString());
        Assert.That(report.Ranks[FailureScenarios.Culprit].Output, Does.Contain("on purpose"));
        Assert.That(report.Ranks[FailureScenarios.Culprit].ExitCode, Is.EqualTo(RankScenario.Failed));
    }

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void A_rank_that_throws_leaves_what_it_has_in_flight(string backend)
    {
        var report = Ranks.Spawn(FailureScenarios.ThrowsWhileOthersAreBusy, 4, backend, timeout: TimeSpan.FromSeconds(20));
        AssertFailed(report);
        Assert.That(report.Ranks[FailureScenarios.Culprit].ExitCode, Is.EqualTo(RankScenario.Failed), report.ToString());
        Assert.That(report.Elapsed, Is.LessThan(TimeSpan.FromSeconds(12)), report.ToString());
    }

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void A_rank_that_sends_more_rows_than_are_expected_fails_the_exchange(string backend)
    {
        var report = Ranks.Spawn(FailureScenarios.SplitsDisagree, 4, backend, groupTimeout: GroupTimeout, arguments: ["3", "5"]);
        AssertFailed(report);
        // Gloo's own thread ends the process.
        Assert.That(report.Ranks[0].Output, Does.Contain(backend == "mpi" ? "rows from each rank [0, 3, 0, 0]" : "20 vs 12"), report.ToString());
    }

    [Test]
    public void A_rank_that_sends_fewer_rows_than_are_expected_fails_the_exchange_of_MPI()
    {
        Assume.That(Ranks.Backends, Does.Contain("mpi"));
        var report = Ranks.Spawn(FailureScenarios.SplitsDisagree, 4, "mpi", groupTimeout: GroupTimeout, arguments: ["5", "3"]);
        AssertFailed(report);
        Assert.That(report.Ranks[0].Output, Does.Contain("rows from each rank [0, 5, 0, 0]"), report.ToString());
        Assert.That(report.Ranks[0].Output, Does.Contain("rank 1 sent 12 bytes where 20 were expected"));
    }

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void A_group_that_not_all_members_join_is_given_up(string backend)
    {
        var report = Ranks.Spawn(FailureScenarios.NeverJoinsTheGroup, 4, backend, groupTimeout: GroupTimeout);
        AssertFailed(report);
        Assert.That(report.Ranks[0].Output, Does.Contain("create_group").And.Contain("world/late"), report.ToString());
    }

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void A_group_is_of_no_more_use_after_a_failure(string backend)
    {
        var report = Ranks.Spawn(FailureScenarios.IsOfNoMoreUse, 4, backend, groupTimeout: TimeSpan.FromSeconds(1));
        AssertFailed(report);
        Assert.That(report.Ranks.Any(rank => rank.Output.Contains("as expected", StringComparison.Ordinal)), Is.True, report.ToString());
    }

    private static void AssertFailed(RanksReport report)
    {
        Assert.That(report.TimedOut, Is.False, report.ToString());
        Assert.That(report.ExitCode, Is.Not.Zero, report.ToString());
        Assert.That(report.Leftovers, Is.Zero, report.ToString());
    }

    [GeneratedRegex(@"after (\d+\.\d+) s")]
    private static partial Regex Elapsed();
}

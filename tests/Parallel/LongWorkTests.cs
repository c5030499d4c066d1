using NUnit.Framework;

namespace Moe.Tests.Distributed;

public sealed class LongWorkTests
{
    private static readonly TimeSpan GroupTimeout = TimeSpan.FromSeconds(2);

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void A_part_may_take_longer_than_the_time_out(string backend) => Ranks.Run(LongWorkScenarios.OneIsSlow, 3, backend, groupTimeout: GroupTimeout);

    [Test]
    public void A_process_alone_gets_its_own() => Ranks.Run(LongWorkScenarios.OneIsSlow, 1, "single");

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void Work_of_the_others_ends_with_a_rank_that_dies(string backend)
    {
        var report = Ranks.Spawn(LongWorkScenarios.OneDies, 3, backend, groupTimeout: GroupTimeout);
        Assert.That(report.TimedOut, Is.False, report.ToString());
        Assert.That(report.Ranks.Select(rank => rank.ExitCode), Has.None.EqualTo(0), report.ToString());
        Assert.That(report.Elapsed, Is.LessThan(TimeSpan.FromSeconds(20)), report.ToString());
    }

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void What_a_part_throws_ends_its_rank(string backend)
    {
        var report = Ranks.Spawn(LongWorkScenarios.OneThrows, 3, backend, groupTimeout: GroupTimeout);
        Assert.That(report.TimedOut, Is.False, report.ToString());
        Assert.That(report.Ranks[LongWorkScenarios.Culprit].ExitCode, Is.EqualTo(RankScenario.Failed), report.ToString());
        Assert.That(report.Ranks[LongWorkScenarios.Culprit].Output, Does.Contain("InvalidTimeZoneException: on purpose"), report.ToString());
        Assert.That(report.Elapsed, Is.LessThan(TimeSpan.FromSeconds(20)), report.ToString());
    }
}

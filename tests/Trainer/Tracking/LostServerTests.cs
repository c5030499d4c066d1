using System.Diagnostics;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>A server that is away, slow or broken costs no point, doubles none, and holds nothing up.</summary>
internal sealed class LostServerTests : TrackedRunFixture
{
    [Test]
    public void Server_that_is_down_for_half_of_the_run_has_every_point_once()
    {
        Server.Stop();
        using var tracker = Folder.Open();
        Rows.Tell(tracker, 1, 50);
        Thread.Sleep(300);
        Server.Start();
        Rows.Tell(tracker, 51, 100);

        Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True, string.Join('\n', Folder.Warnings));

        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(100)));
        Assert.That(Rows.Of(OnlyRun, "perf/step_ms"), Has.Length.EqualTo(100));
        Assert.That(OnlyRun.Status, Is.EqualTo("FINISHED"));
        Assert.That(Folder.Warnings[0], Does.Contain("cannot be reached").And.Contain("kept in the run folder"));
        Assert.That(Folder.Warnings[^1], Does.Contain("answers again"));
    }

    [Test]
    public void Server_that_goes_away_in_the_middle_has_every_point_once()
    {
        using var tracker = Folder.Open();
        Rows.Tell(tracker, 1, 30);
        WaitFor(() => Folder.State.Synced > 0);
        Server.Stop();
        Rows.Tell(tracker, 31, 60);
        Thread.Sleep(100);
        Server.Start();
        Rows.Tell(tracker, 61, 90);

        Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True);
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(90)));
    }

    private static readonly Interference[] Faults =
    [
        Interference.TooMany(), Interference.TooMany("1") with { Status = 503 }, Interference.Html500, Interference.Html500OnceStored, Interference.Plain503,
        Interference.Reset, Interference.ResetOnceStored, Interference.Login, new(502, "<html>bad gateway</html>"), new(504), new(408),
    ];

    [TestCaseSource(nameof(Faults))]
    public void Every_call_that_fails_once_is_made_again_and_tells_nothing_twice(object fault)
    {
        // Every call of a kind fails at first, whatever the run asks for.
        var seen = new HashSet<string>();
        Server.Always = path => seen.Add(path) ? (Interference)fault : null;
        using var tracker = Folder.Open();
        Rows.Tell(tracker, 1, 20);

        Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True, string.Join('\n', Folder.Warnings));

        Assert.That(seen, Has.Count.GreaterThanOrEqualTo(5), "experiment, run, batch, file, status");
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(20)));
        Assert.That(Server.Store.Experiments.Keys, Is.EquivalentTo(new[] { "Default", "tiny" }));
        Assert.That(Server.Store.Artifacts.Keys, Is.EquivalentTo(new[] { $"1/{OnlyRun.Id}/artifacts/config.yaml" }));
        Assert.That(Folder.State.Refused, Is.Zero);
    }

    [Test]
    public void Storm_of_all_failures_together_passes()
    {
        var random = new Random(7);
        Server.Always = _ => random.Next(2) == 0 ? null : Faults.Where(fault => fault.RetryAfter != "1").ElementAt(random.Next(Faults.Length - 1));
        using var tracker = Folder.Open();
        for (var step = 1; step <= 40; step++)
        {
            Rows.Tell(tracker, step, step);
            Thread.Sleep(5);
        }

        Assert.That(tracker.Finish(TrackedStatus.Finished, TimeSpan.FromSeconds(60)), Is.True, string.Join('\n', Folder.Warnings));
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(40)));
    }

    [Test]
    public void Slow_answer_counts_as_none_and_is_no_second_point()
    {
        Folder.Connection = Folder.Connection with { RequestTimeout = TimeSpan.FromMilliseconds(150) };
        Server.Next(Enumerable.Repeat(Interference.Html500OnceStored with { Delay = TimeSpan.FromMilliseconds(400) }, 4).ToArray());
        using var tracker = Folder.Open();
        Rows.Tell(tracker, 1, 20);

        Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True, string.Join('\n', Folder.Warnings));
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(20)));
        Assert.That(Folder.Warnings[0], Does.Contain("did not answer within 0.15 s"));
    }

    [Test]
    public void Training_does_not_wait_for_a_server_that_never_answers()
    {
        Server.Always = _ => Interference.Html500 with { Delay = TimeSpan.FromMinutes(1) };
        var clock = Stopwatch.StartNew();
        using var tracker = Folder.Open();
        Rows.Tell(tracker, 1, 2000);
        Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(2)), "2000 rows");

        clock.Restart();
        Assert.That(tracker.Finish(TrackedStatus.Finished, TimeSpan.FromMilliseconds(500)), Is.False);
        Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(3)), "the end");
        Assert.That(tracker.Rest, Does.Contain($"launch mlflow sync --run {Folder.Run.Path}").And.Contain(Server.Uri));
    }

    [Test]
    public void Retry_after_is_heeded()
    {
        Folder.Connection = Folder.Connection with { Retry = new RetryPolicy { First = TimeSpan.FromMilliseconds(1) } };
        Server.Next(Interference.TooMany("1"));
        var clock = Stopwatch.StartNew();
        using var tracker = Folder.Open();
        WaitFor(() => Server.Store.Runs.Count == 1);
        Assert.That(clock.Elapsed, Is.GreaterThan(TimeSpan.FromSeconds(0.9)));
    }

    [Test]
    public void Pauses_grow_twofold_to_the_longest()
    {
        var retry = new RetryPolicy { First = TimeSpan.FromSeconds(1), Longest = TimeSpan.FromSeconds(60), Jitter = 0.5 };
        Assert.That(Enumerable.Range(1, 8).Select(n => retry.Pause(n, null, 0).TotalSeconds), Is.EqualTo(new[] { 1, 2, 4, 8, 16, 32, 60, 60.0 }));
        Assert.That(retry.Pause(1, null, 0.5).TotalSeconds, Is.EqualTo(1.25));
        Assert.That(retry.Pause(9, TimeSpan.FromSeconds(7), 0.9).TotalSeconds, Is.EqualTo(7));
        Assert.That(retry.Pause(1, TimeSpan.FromDays(7), 0), Is.EqualTo(retry.LongestAsked));
        Assert.That((retry with { HeedsRetryAfter = false }).Pause(1, TimeSpan.FromSeconds(7), 0).TotalSeconds, Is.EqualTo(1));
    }

    private static void WaitFor(Func<bool> condition)
    {
        for (var clock = Stopwatch.StartNew(); !condition(); Thread.Sleep(10))
        {
            Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(20)), "waited in vain");
        }
    }
}

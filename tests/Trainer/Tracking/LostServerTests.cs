using System.Diagnostics;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>A server that is away, slow or broken costs no point, doubles none, and holds nothing up.</summary>
internal sealed class LostServerTests
{
    private FakeMlflow _server = null!;
    private TrackedFolder _folder = null!;

    [SetUp]
    public void Start()
    {
        _server = new FakeMlflow();
        _folder = new TrackedFolder(_server.Uri);
    }

    [TearDown]
    public void Stop()
    {
        _server.Dispose();
        _folder.Dispose();
    }

    private FakeRun OnlyRun => _server.Store.Runs.Single();

    [Test]
    public void Server_that_is_down_for_half_of_the_run_has_every_point_once()
    {
        _server.Stop();
        using var tracker = _folder.Open();
        Rows.Tell(tracker, 1, 50);
        Thread.Sleep(300);
        _server.Start();
        Rows.Tell(tracker, 51, 100);

        Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True, string.Join('\n', _folder.Warnings));

        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(100)));
        Assert.That(Rows.Of(OnlyRun, "perf/step_ms"), Has.Length.EqualTo(100));
        Assert.That(OnlyRun.Status, Is.EqualTo("FINISHED"));
        Assert.That(_folder.Warnings[0], Does.Contain("cannot be reached").And.Contain("kept in the run folder"));
        Assert.That(_folder.Warnings[^1], Does.Contain("answers again"));
    }

    [Test]
    public void Server_that_goes_away_in_the_middle_has_every_point_once()
    {
        using var tracker = _folder.Open();
        Rows.Tell(tracker, 1, 30);
        WaitFor(() => _folder.State.Synced > 0);
        _server.Stop();
        Rows.Tell(tracker, 31, 60);
        Thread.Sleep(100);
        _server.Start();
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
        _server.Always = path => seen.Add(path) ? (Interference)fault : null;
        using var tracker = _folder.Open();
        Rows.Tell(tracker, 1, 20);

        Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True, string.Join('\n', _folder.Warnings));

        Assert.That(seen, Has.Count.GreaterThanOrEqualTo(5), "experiment, run, batch, file, status");
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(20)));
        Assert.That(_server.Store.Experiments.Keys, Is.EquivalentTo(new[] { "Default", "tiny" }));
        Assert.That(_server.Store.Artifacts.Keys, Is.EquivalentTo(new[] { $"1/{OnlyRun.Id}/artifacts/config.yaml" }));
        Assert.That(_folder.State.Refused, Is.Zero);
    }

    [Test]
    public void Storm_of_all_failures_together_passes()
    {
        var random = new Random(7);
        _server.Always = _ => random.Next(2) == 0 ? null : Faults.Where(fault => fault.RetryAfter != "1").ElementAt(random.Next(Faults.Length - 1));
        using var tracker = _folder.Open();
        for (var step = 1; step <= 40; step++)
        {
            Rows.Tell(tracker, step, step);
            Thread.Sleep(5);
        }

        Assert.That(tracker.Finish(TrackedStatus.Finished, TimeSpan.FromSeconds(60)), Is.True, string.Join('\n', _folder.Warnings));
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(40)));
    }

    [Test]
    public void Slow_answer_counts_as_none_and_is_no_second_point()
    {
        _folder.Connection = _folder.Connection with { RequestTimeout = TimeSpan.FromMilliseconds(150) };
        _server.Next(Enumerable.Repeat(Interference.Html500OnceStored with { Delay = TimeSpan.FromMilliseconds(400) }, 4).ToArray());
        using var tracker = _folder.Open();
        Rows.Tell(tracker, 1, 20);

        Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True, string.Join('\n', _folder.Warnings));
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(20)));
        Assert.That(_folder.Warnings[0], Does.Contain("did not answer within 0.15 s"));
    }

    [Test]
    public void Training_does_not_wait_for_a_server_that_never_answers()
    {
        _server.Always = _ => Interference.Html500 with { Delay = TimeSpan.FromMinutes(1) };
        var clock = Stopwatch.StartNew();
        using var tracker = _folder.Open();
        Rows.Tell(tracker, 1, 2000);
        Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(2)), "2000 rows");

        clock.Restart();
        Assert.That(tracker.Finish(TrackedStatus.Finished, TimeSpan.FromMilliseconds(500)), Is.False);
        Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(3)), "the end");
        Assert.That(tracker.Rest, Does.Contain($"launch mlflow sync --run {_folder.Run.Path}").And.Contain(_server.Uri));
    }

    [Test]
    public void Retry_after_is_heeded()
    {
        _folder.Connection = _folder.Connection with { Retry = new RetryPolicy { First = TimeSpan.FromMilliseconds(1) } };
        _server.Next(Interference.TooMany("1"));
        var clock = Stopwatch.StartNew();
        using var tracker = _folder.Open();
        WaitFor(() => _server.Store.Runs.Count == 1);
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

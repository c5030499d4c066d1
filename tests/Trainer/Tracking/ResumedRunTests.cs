using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>A run folder that is opened again: by a resumed training, or by <c>launch mlflow sync</c>.</summary>
internal sealed class ResumedRunTests : TrackedRunFixture
{
    [Test]
    public void Resumed_run_goes_on_in_its_mlflow_run()
    {
        Attempt(0, 1, 10, TrackedStatus.Stopped);
        Assert.That(OnlyRun.Status, Is.EqualTo("SCHEDULED"));
        Attempt(10, 11, 20, TrackedStatus.Finished);

        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(20)));
        Assert.That(OnlyRun.StatusHistory, Is.EqualTo(new[] { "RUNNING", "RUNNING", "SCHEDULED", "RUNNING", "FINISHED" }));
    }

    [Test]
    public void Rows_that_are_trained_again_do_not_stand_twice()
    {
        Attempt(0, 1, 15, TrackedStatus.Failed);
        Thread.Sleep(5); // another millisecond, so that a point told again would be another point
        Attempt(10, 11, 20, TrackedStatus.Finished);

        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(20)));
        Assert.That(Rows.Of(OnlyRun, "perf/step_ms"), Has.Length.EqualTo(20));
    }

    [Test]
    public void Rows_that_never_left_are_replaced_by_those_that_are_trained_again()
    {
        Server.Stop();
        using (var tracker = Folder.Open())
        {
            Rows.Tell(tracker, 1, 10);
            Rows.Tell(tracker, 12, ("train/loss", 999));
            tracker.Finish(TrackedStatus.Failed, TimeSpan.Zero);
        }

        Server.Start();
        Attempt(10, 11, 20, TrackedStatus.Finished);

        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(20)));
    }

    [Test]
    public void Half_a_line_of_a_killed_process_is_gone()
    {
        Attempt(0, 1, 10, TrackedStatus.Stopped);
        File.AppendAllText(Folder.Run.TrackingFile, "{\"kind\":\"metrics\",\"time\":17");
        Attempt(10, 11, 20, TrackedStatus.Finished);
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(20)));
    }

    [Test]
    public void Changed_parameters_stand_beside_the_first_ones()
    {
        Attempt(0, 1, 2, TrackedStatus.Stopped);
        Folder.Config = Folder.Config with { Optimizer = new() { LearningRate = 0.5 } };
        Attempt(2, 3, 4, TrackedStatus.Finished, ranks: 2);

        Assert.That(OnlyRun.Parameters["ranks"], Is.EqualTo("1"));
        Assert.That(OnlyRun.Parameters["resume.1.ranks"], Is.EqualTo("2"));
        Assert.That(OnlyRun.Parameters["resume.1.optimizer.learning_rate"], Is.EqualTo("0.5"));
        Assert.That(OnlyRun.Parameters.Keys.Count(key => key.StartsWith("resume.", StringComparison.Ordinal)), Is.EqualTo(3), "and the mesh");
        Assert.That(Folder.Warnings, Is.Empty);
    }

    [Test]
    public void Machine_samples_go_on_counting()
    {
        Folder.Config = Folder.Config with { Tracking = Folder.Config.Tracking with { SystemMetrics = true, SystemMetricsSeconds = 0.1 } };
        Attempt(0, 1, 5, TrackedStatus.Stopped, pause: 350);
        Attempt(5, 6, 9, TrackedStatus.Finished, pause: 350);

        var steps = Rows.Of(OnlyRun, "system/cpu_utilization_percentage").Select(point => point.Step).ToArray();
        Assert.That(steps, Has.Length.GreaterThan(3).And.EqualTo(Enumerable.Range(0, steps.Length)));
    }

    [Test]
    public void Process_killed_between_sending_and_noting_tells_nothing_twice()
    {
        // What a kill leaves: the server has all, mlflow.json and nothing after the journal's last line says so.
        using (var tracker = Folder.Open())
        {
            Rows.Tell(tracker, 1, 10);
            Assert.That(SpinWait.SpinUntil(() => Rows.Of(OnlyRunOrNone, "train/loss").Length == 10, TimeSpan.FromSeconds(10)));
            tracker.Finish(TrackedStatus.Running);
        }

        (Folder.State with { Synced = 0 }).Write(Folder.Run.TrackingStateFile);

        var report = Folder.Sync();

        Assert.That(report.Outcome, Is.EqualTo(SyncOutcome.Whole), report.Fault);
        Assert.That(report.Lines, Is.GreaterThan(10));
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(10)));
        Assert.That(OnlyRun.Status, Is.EqualTo("KILLED"), "it ended without a word");
    }

    private FakeRun OnlyRunOrNone => Server.Store.Runs.SingleOrDefault() ?? new FakeRun { Id = "", ExperimentId = "", ArtifactUri = "" };

    [Test]
    public void Sync_sends_what_a_lost_server_missed_and_then_nothing_more()
    {
        Server.Stop();
        using (var tracker = Folder.Open())
        {
            Rows.Tell(tracker, 1, 300);
            Assert.That(tracker.Finish(TrackedStatus.Finished, TimeSpan.FromMilliseconds(100)), Is.False);
        }

        Assert.That(Folder.Sync(0.3).Outcome, Is.EqualTo(SyncOutcome.Behind));
        Server.Start();
        var first = Folder.Sync();
        var requests = Server.Requests.Count;
        var second = Folder.Sync();

        Assert.That((first.Outcome, second.Outcome, second.Lines), Is.EqualTo((SyncOutcome.Whole, SyncOutcome.Whole, 0)));
        Assert.That(first.Lines, Is.EqualTo(Rows.Journal(Folder.Run).Length));
        Assert.That(Server.Requests, Has.Count.EqualTo(requests), "a run that is told asks nothing");
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(300)));
        Assert.That(OnlyRun.Status, Is.EqualTo("FINISHED"));
    }

    [Test]
    public void Sync_leaves_a_run_alone_that_is_sent_by_its_own_process()
    {
        using var tracker = Folder.Open();
        Assert.That(Folder.Sync().Outcome, Is.EqualTo(SyncOutcome.Busy));
        Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True);
    }

    [Test]
    public void Sync_of_a_folder_that_was_not_tracked_says_so() => Assert.That(Folder.Sync(), Is.EqualTo(new SyncReport(SyncOutcome.NotTracked)));

    [Test]
    public void Whole_run_can_be_told_to_another_server()
    {
        Attempt(0, 1, 10, TrackedStatus.Finished);
        using var other = new FakeMlflow();

        Assert.That(Folder.Sync(uri: other.Uri).Outcome, Is.EqualTo(SyncOutcome.Whole));
        Assert.That(Rows.Of(other.Store.Runs.Single(), "train/loss"), Is.EqualTo(Rows.Losses(10)));
        Assert.That(other.Store.Runs.Single().Parameters, Is.EquivalentTo(OnlyRun.Parameters));
        Assert.That(Folder.State.Uri, Is.EqualTo(other.Uri));
    }

    [Test]
    public void Resumed_run_with_another_server_is_told_to_it_whole()
    {
        Attempt(0, 1, 10, TrackedStatus.Stopped);
        using var other = new FakeMlflow();
        Folder.Uri = other.Uri;
        Attempt(10, 11, 20, TrackedStatus.Finished);

        Assert.That(Rows.Of(other.Store.Runs.Single(), "train/loss"), Is.EqualTo(Rows.Losses(20)));
        Assert.That(Folder.Warnings.Single(), Does.Contain("as a new run"));
    }

    [Test]
    public void Damaged_line_is_left_out_and_counted()
    {
        Server.Stop();
        using (var tracker = Folder.Open())
        {
            Rows.Tell(tracker, 1, 10);
            tracker.Finish(TrackedStatus.Finished, TimeSpan.Zero);
        }

        var lines = File.ReadAllLines(Folder.Run.TrackingFile);
        lines[^3] = new string('\0', 40);
        File.WriteAllLines(Folder.Run.TrackingFile, lines);
        Server.Start();

        Assert.That(Folder.Sync().Outcome, Is.EqualTo(SyncOutcome.Whole));
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Has.Length.EqualTo(9));
        Assert.That(Folder.State.Refused, Is.EqualTo(1));
        Assert.That(Folder.Warnings, Has.Some.Contains("is damaged at byte"));
    }

    [Test]
    public void Journal_that_lost_its_end_to_a_power_cut_swallows_no_later_row()
    {
        Attempt(0, 1, 10, TrackedStatus.Stopped);
        using (var stream = new FileStream(Folder.Run.TrackingFile, FileMode.Open))
        {
            stream.SetLength(stream.Length / 2);
        }

        Attempt(10, 11, 20, TrackedStatus.Finished);
        Assert.That(Rows.Of(OnlyRun, "train/loss").Select(point => point.Step), Is.SupersetOf(Enumerable.Range(11, 10)));
        Assert.That(OnlyRun.Status, Is.EqualTo("FINISHED"));
    }

    private void Attempt(long lastStep, int from, int to, string status, int ranks = 1, int pause = 0) => Track(
        tracker =>
        {
            Rows.Tell(tracker, from, to);
            Thread.Sleep(pause);
        },
        lastStep,
        ranks,
        status);
}

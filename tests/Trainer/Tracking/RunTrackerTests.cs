using System.Text;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>What a server has of a run that was tracked without trouble, and what it refuses.</summary>
internal sealed class RunTrackerTests : TrackedRunFixture
{
    [Test]
    public void Run_has_name_experiment_parameters_tags_and_configuration()
    {
        Folder.Variables["SLURM_JOB_ID"] = "4711";
        Folder.Variables["USER"] = "ada";
        Folder.Variables["MOE_COMMAND"] = "launch --nodes 2";
        Folder.Config = Folder.Config with { Tracking = Folder.Config.Tracking with { Tags = [new() { Key = "team", Value = "blue" }], ParentRunId = "p1" } };
        Track(ranks: 2);

        Assert.That(OnlyRun.Name, Is.EqualTo("run-1"));
        Assert.That(OnlyRun.ExperimentId, Is.EqualTo(Server.Store.Experiments["tiny"].Id));
        Assert.That(OnlyRun.Parameters["model.moe.top_k"], Is.EqualTo("2"));
        Assert.That(OnlyRun.Parameters["optimizer.name"], Is.EqualTo("adamw"));
        Assert.That(OnlyRun.Parameters["mesh"], Is.EqualTo("replica 1 x expert 2"));
        Assert.That(OnlyRun.Parameters.Keys.Where(key => key.StartsWith("tracking", StringComparison.Ordinal)), Is.Empty);
        Assert.That(OnlyRun.Tags, Is.SupersetOf(new Dictionary<string, string>
        {
            ["team"] = "blue",
            ["mlflow.user"] = "ada",
            ["mlflow.parentRunId"] = "p1",
            ["mlflow.runName"] = "run-1",
            ["mlflow.source.type"] = "JOB",
            ["mlflow.source.name"] = "launch --nodes 2",
            ["moe.slurm_job_id"] = "4711",
            ["moe.hosts"] = "here x 2",
        }));
        Assert.That(OnlyRun.Tags["mlflow.source.git.commit"], Does.Match("^[0-9a-f]{40}$"));
        Assert.That(Encoding.UTF8.GetString(Server.Store.Artifacts.Single().Value), Is.EqualTo("run:\n  seed: 1\n"));
        Assert.That(OnlyRun.StatusHistory, Is.EqualTo(new[] { "RUNNING", "RUNNING", "FINISHED" }));
        Assert.That(OnlyRun.EndTime, Is.Not.Null);
    }

    [Test]
    public void Fake_server_loses_what_follows_a_bare_nan_as_the_real_one_does()
    {
        Track();
        using var http = new HttpClient();
        using var body = new StringContent(
            $"{{\"run_id\":\"{OnlyRun.Id}\",\"metrics\":[{{\"key\":\"a\",\"value\":1,\"timestamp\":5,\"step\":1}},{{\"key\":\"b\",\"value\":NaN,\"timestamp\":5,\"step\":1}},{{\"key\":\"c\",\"value\":2,\"timestamp\":5,\"step\":1}}]}}",
            Encoding.UTF8, new System.Net.Http.Headers.MediaTypeHeaderValue("application/json"));
        using var answer = http.PostAsync(Server.Uri + "/api/2.0/mlflow/runs/log-batch", body).GetAwaiter().GetResult();

        Assert.That((int)answer.StatusCode, Is.EqualTo(200));
        Assert.That(OnlyRun.Points.Select(point => point.Key), Is.EquivalentTo(new[] { "a", "" }), "c is lost without a word");
    }

    [Test]
    public void Numbers_that_are_none_arrive_and_cost_no_other_point()
    {
        Track(tracker =>
        {
            Rows.Tell(tracker, 1, ("train/loss", double.NaN), ("train/grad_norm", 1));
            Rows.Tell(tracker, 2, ("train/loss", double.PositiveInfinity), ("train/grad_norm", 2));
            Rows.Tell(tracker, 3, ("train/loss", double.NegativeInfinity), ("train/grad_norm", 3));
            Rows.Tell(tracker, 4, ("train/loss", 1e-300), ("train/grad_norm", 0.1 + 0.2));
        });

        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(new[] { (1L, double.NaN), (2, double.MaxValue), (3, double.MinValue), (4, 1e-300) }));
        Assert.That(Rows.Of(OnlyRun, "train/grad_norm"), Is.EqualTo(new[] { (1L, 1.0), (2, 2), (3, 3), (4, 0.1 + 0.2) }));
    }

    [Test]
    public void Rows_beyond_every_limit_are_cut_into_what_the_server_takes()
    {
        var tags = Enumerable.Range(0, 250).Select(i => new TrackingTag { Key = $"tag {i}", Value = new string('ä', 9000) }).ToArray();
        var domains = Enumerable.Range(0, 150).Select(i => new DomainConfig { Name = $"domain{i}", Path = "/" + new string('p', 200) }).ToArray();
        Folder.Config = Folder.Config with { Tracking = Folder.Config.Tracking with { Tags = [.. tags] }, Data = new() { Domains = [.. domains] } };
        Track(tracker => Rows.Tell(tracker, 1, [.. Enumerable.Range(0, 2500).Select(i => ($"moe/load/expert{i}/{new string('x', 200)}", (double)i))]));

        Assert.That(Folder.Warnings, Is.Empty);
        Assert.That(OnlyRun.Points.Count(point => point.Key.StartsWith("moe/load.expert", StringComparison.Ordinal)), Is.EqualTo(2500));
        Assert.That(OnlyRun.Tags["tag 249"], Has.Length.EqualTo(5000).And.EndsWith("..."));
        Assert.That(OnlyRun.Parameters.Count(parameter => parameter.Key.StartsWith("data.domains.", StringComparison.Ordinal)), Is.EqualTo(450));
        Assert.That(Server.Store.LargestBatch, Is.LessThanOrEqualTo(1000));
    }

    [TestCase("eval/loss", "eval/loss")]
    [TestCase("eval/loss/verse", "eval/loss.verse")]
    [TestCase("moe/load (max) %", "moe/load _max_ _")]
    [TestCase("//a/../b//c/", "a/__.b.c")]
    [TestCase("é:x", "__x")]
    [TestCase("", "_")]
    public void Keys_are_those_that_every_server_takes(string key, string clean)
    {
        Assert.That(MlflowLimits.MetricKey(key), Is.EqualTo(clean));
        Assert.That(MlflowLimits.MetricKey(new string('k', 300)), Has.Length.EqualTo(250));
    }

    [Test]
    public void Point_that_is_refused_takes_no_other_with_it()
    {
        Server.Store.RefusedKey = "train/odd";
        Track(tracker =>
        {
            Rows.Tell(tracker, 1, 30);
            Rows.Tell(tracker, 31, ("train/odd", 1), ("train/loss", 10.0 / 31));
        });

        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(31)));
        Assert.That(Folder.State.Refused, Is.EqualTo(1));
        Assert.That(Folder.Warnings, Has.One.Items.And.One.Contains("refuses train/odd = 1 of step 31"));
    }

    [Test]
    public void Old_server_has_long_parameters_cut_to_what_it_takes()
    {
        Server.Store.ParameterLength = 500;
        Folder.Config = Folder.Config with { Data = new() { Domains = [new() { Name = "a", Path = "/" + new string('p', 900) }] } };
        Track();

        Assert.That(OnlyRun.Parameters["data.domains.0.path"], Has.Length.EqualTo(500).And.EndsWith("..."));
        Assert.That(OnlyRun.Parameters["data.domains.0.name"], Is.EqualTo("a"));
    }

    [Test]
    public void Parameter_that_another_program_has_set_becomes_a_tag()
    {
        Track();
        OnlyRun.Parameters["run.seed"] = "99";
        using var other = new TrackedFolder(Server.Uri) { Connection = Folder.Connection };
        other.Variables["MLFLOW_RUN_ID"] = OnlyRun.Id;
        using (var tracker = other.Open())
        {
            Assert.That(tracker.Finish(TrackedStatus.Finished), Is.True, string.Join('\n', other.Warnings));
        }

        Assert.That(OnlyRun.Parameters["run.seed"], Is.EqualTo("99"));
        Assert.That(OnlyRun.Tags["param.run.seed"], Is.EqualTo("1"));
    }

    [Test]
    public void Experiment_that_another_run_makes_at_the_same_moment_is_taken()
    {
        var asked = 0;
        Server.Always = path =>
        {
            if (path.EndsWith("experiments/create", StringComparison.Ordinal) && asked++ == 0)
            {
                Server.Store.Experiments["tiny"] = ("77", "active");
            }

            return null;
        };
        Track();
        Assert.That(OnlyRun.ExperimentId, Is.EqualTo("77"));
    }

    [Test]
    public void Deleted_run_loses_nothing_and_has_the_rest_once_it_is_restored()
    {
        using (var tracker = Folder.Open())
        {
            Rows.Tell(tracker, 1, 10);
            Assert.That(SpinWait.SpinUntil(() => Folder.State.Synced > 0, TimeSpan.FromSeconds(10)));
            OnlyRun.LifecycleStage = "deleted";
            Rows.Tell(tracker, 11, 20);
            Assert.That(tracker.Finish(TrackedStatus.Finished), Is.False);
        }

        Assert.That(Folder.Warnings.Single(), Does.Contain("is deleted; restore it"));
        OnlyRun.LifecycleStage = "active";
        Assert.That(Folder.Sync().Outcome, Is.EqualTo(SyncOutcome.Whole));
        Assert.That(Rows.Of(OnlyRun, "train/loss"), Is.EqualTo(Rows.Losses(20)));
        Assert.That(Folder.State.Refused, Is.Zero);
    }

    [Test]
    public void Deleted_experiment_is_named_with_what_to_do()
    {
        Server.Store.Experiments["tiny"] = ("5", "deleted");
        using var tracker = Folder.Open();
        Assert.That(tracker.Finish(TrackedStatus.Finished), Is.False);
        Assert.That(Folder.Warnings.Single(), Does.Contain("the experiment 'tiny' is deleted").And.Contain("tracking.experiment"));
    }

    [Test]
    public void Machine_is_sampled_under_mlflows_names()
    {
        Folder.Config = Folder.Config with { Tracking = Folder.Config.Tracking with { SystemMetrics = true, SystemMetricsSeconds = 0.1 } };
        Track(_ => Thread.Sleep(600));

        var memory = Rows.Of(OnlyRun, "system/system_memory_usage_percentage");
        Assert.That(memory.Select(point => point.Step), Is.EqualTo(Enumerable.Range(0, memory.Length)).And.Not.Empty);
        Assert.That(memory.Select(point => point.Value), Is.All.InRange(0.1, 100));
        Assert.That(OnlyRun.Points.Select(point => point.Key).Distinct(), Is.SupersetOf(new[]
        {
            "system/cpu_utilization_percentage", "system/system_memory_usage_megabytes", "system/disk_usage_percentage", "system/disk_usage_megabytes",
            "system/disk_available_megabytes", "system/network_receive_megabytes", "system/network_transmit_megabytes",
        }));
    }

    [TestCase(ExitCodes.Done, "FINISHED", true)]
    [TestCase(ExitCodes.Stopped, "SCHEDULED", false)]
    [TestCase(ExitCodes.Failed, "FAILED", true)]
    [TestCase(ExitCodes.Communication, "FAILED", true)]
    [TestCase(130, "KILLED", true)]
    public void Status_says_how_the_run_ended(int exitCode, string status, bool hasEnd)
    {
        Track(status: TrackedStatus.Of(exitCode));
        Assert.That(OnlyRun.Status, Is.EqualTo(status));
        Assert.That(OnlyRun.EndTime.HasValue, Is.EqualTo(hasEnd));
    }

    [Test]
    public void Folder_that_cannot_be_written_costs_the_tracking_and_not_the_training()
    {
        Directory.CreateDirectory(Folder.Run.TrackingFile); // where the journal would be
        Assert.That(Folder.Open(), Is.Null);
        Assert.That(Folder.Warnings.Single(), Does.StartWith("MLflow: the run is not tracked: "));
    }

    [TestCase("state")]
    [TestCase("journal")]
    [TestCase("certificate")]
    public void Run_that_cannot_be_tracked_leaves_the_right_to_send_to_others(string fault)
    {
        switch (fault)
        {
            case "state":
                File.WriteAllText(Folder.Run.TrackingStateFile, "{ half");
                break;
            case "journal":
                Directory.CreateDirectory(Folder.Run.TrackingFile);
                break;
            default:
                Folder.Uri = "https://127.0.0.1:1";
                Folder.Connection = Folder.Connection with { ServerCertificateFile = "/nowhere/ca.pem" };
                break;
        }

        Assert.That(Folder.Open(), Is.Null);
        Assert.That(Folder.Warnings.Single(), Does.StartWith("MLflow: the run is not tracked: "));
        using var free = SenderLock.TryTake(Folder.Run);
        Assert.That(free, Is.Not.Null);
    }
}

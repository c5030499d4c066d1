using System.Text;
using System.Text.Json.Nodes;
using Moe.Tests.Launch;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>Trainings as a user has them, told to a server in this process: the launch command and its own ranks.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class TrackedTrainingTests : LaunchTests
{
    private const string Secret = "t0ken-of-the-test";

    private const string Config = """
        run: {name: tracked}
        model:
          layers: 1
          width: 16
          heads: 2
          sequence_length: 16
          moe: {experts: 4, top_k: 2, expert_width: 12}
        schedule: {warmup_steps: 2}
        data:
          domains:
            - {name: text, path: text.txt}
        train: {steps: 12, micro_batch: 2, log_every: 1, eval_every: 6, eval_sequences: 4, checkpoint_every: 4, sample_tokens: 8}
        tracking: {system_metrics_seconds: 0.2, checkpoints: last}
        """;

    private FakeMlflow _server = null!;
    [SetUp]
    public void Start()
    {
        _server = new FakeMlflow { Authorization = "Bearer " + Secret };
        File.WriteAllText(Launched.ConfigFile, Config);
        Launched.Environment["MLFLOW_TRACKING_URI"] = _server.Uri;
        Launched.Environment["MLFLOW_TRACKING_TOKEN"] = Secret;
        Launched.Environment["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"] = "0.1";
    }

    [TearDown]
    public void Stop()
    {
        _server.Dispose();
    }

    private FakeRun OnlyRun => _server.Store.Runs.Single();

    [Test]
    public void Training_is_told_from_its_configuration_to_its_sample()
    {
        Assert.That(Train(), Is.EqualTo(ExitCodes.Done), Launched.Error);

        Assert.That(OnlyRun.Status, Is.EqualTo("FINISHED"), Launched.Error);
        Assert.That(_server.Store.Experiments, Contains.Key("tracked"));
        AssertRowsAreTheRunFolders(steps: 12);
        Assert.That(OnlyRun.Parameters["model.moe.experts"], Is.EqualTo("4"));
        Assert.That(OnlyRun.Parameters["ranks"], Is.EqualTo("1"));
        Assert.That(OnlyRun.Tags["moe.command"], Does.Contain("launch.dll").And.Contain("--run-dir"));
        Assert.That(OnlyRun.Tags["moe.hosts"], Is.EqualTo($"{Environment.MachineName} x 1"));
        Assert.That(Artifact("config.yaml"), Is.EqualTo(File.ReadAllText(Launched.Folder.ConfigFile)));
        Assert.That(Artifact("sample.txt"), Does.StartWith("The").And.EqualTo(File.ReadAllText(Launched.Folder.SampleFile)));
        Assert.That(Artifact("checkpoints/step_00000012/manifest.json"), Does.Contain("12"));
        AssertNoSecret();

        Assert.That(Launched.StartTrainer("mlflow", "sync", "--run", Launched.Folder.Path).End(), Is.Zero, Launched.Error);
        Assert.That(Launched.Output, Does.Contain("sent=0").And.Contain(OnlyRun.Id));
        Assert.That(Launched.StartTrainer("mlflow", "status", "--all", Path.GetDirectoryName(Launched.Folder.Path)!).End(), Is.Zero, Launched.Error);
        Assert.That(Launched.Output, Does.Contain("status=FINISHED pending_bytes=0 refused=0"));
    }

    [Test]
    public void Training_that_stops_and_is_resumed_is_one_run_with_each_point_once()
    {
        Assert.That(Train("--set", "train.stop_at_step=5"), Is.EqualTo(ExitCodes.Stopped), Launched.Error);
        Assert.That(OnlyRun.Status, Is.EqualTo("SCHEDULED"), "it waits to be continued");

        Assert.That(Train(), Is.EqualTo(ExitCodes.Done), Launched.Error);
        Assert.That(OnlyRun.Status, Is.EqualTo("FINISHED"));
        AssertRowsAreTheRunFolders(steps: 12);
    }

    [Test]
    public void Killed_training_whose_server_was_away_is_sent_by_sync_and_then_goes_on()
    {
        _server.Stop();
        var more = new[] { "--set", "train.steps=100000", "--set", "train.checkpoint_every=20", "--set", "train.eval_every=0" };
        StartTraining(more);
        Launched.Wait(() => File.Exists(Launched.Folder.LatestFile), "a checkpoint");
        LaunchedRun.SignalProcess(Launched.ProcessOfRank(0), 9);
        Assert.That(Launched.End(), Is.EqualTo(ExitCodes.Failed));
        Assert.That(Launched.Error, Does.Contain($"mlflow sync --run").And.Contain("cannot be reached"));

        Assert.That(Launched.StartTrainer("mlflow", "sync", "--run", Launched.Folder.Path, "--wait", "1").End(), Is.EqualTo(ExitCodes.Communication));
        Assert.That(Launched.Error, Does.Contain("✗ MLflow lacks a part").And.Not.Contain("   at "));
        _server.Start();
        Assert.That(Launched.StartTrainer("mlflow", "sync", "--all", Path.GetDirectoryName(Launched.Folder.Path)!).End(), Is.Zero, Launched.Error);
        Assert.That(OnlyRun.Status, Is.EqualTo("FAILED"));
        var first = Rows.Of(OnlyRun, "train/loss");
        Assert.That(first.Select(point => point.Step), Is.EqualTo(Enumerable.Range(1, first.Length)));

        var last = first.Length + 40;
        Assert.That(Train([.. more, "--set", $"train.stop_at_step={last}"]), Is.EqualTo(ExitCodes.Stopped), Launched.Error);
        AssertRowsAreTheRunFolders(last);
        AssertNoSecret();
    }

    [Test]
    public void Failed_training_is_a_failed_run()
    {
        var code = Train("--set", "balance.z_loss=1e38", "--set", "train.max_skipped_steps=0");

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Output);
        Assert.That(OnlyRun.Status, Is.EqualTo("FAILED"));
        Assert.That(OnlyRun.Parameters["balance.z_loss"], Is.EqualTo("1e+38"));
    }

    [Test]
    public void Training_without_a_server_ends_as_well_and_says_which_command_sends_it()
    {
        _server.Stop();
        Assert.That(Train("--set", "tracking.finish_wait_seconds=0.2"), Is.EqualTo(ExitCodes.Done), Launched.Error);
        Assert.That(Launched.Error.Split('\n').Count(line => line.Contains("mlflow sync --run", StringComparison.Ordinal)), Is.EqualTo(1), Launched.Error);
        AssertNoSecret();
    }

    [Test]
    public void Ranks_do_not_wait_in_a_collective_for_a_server_that_is_behind()
    {
        _server.Stop();
        var code = Train("--nodes", "2", "--set", "parallel.timeout_seconds=4", "--set", "tracking.finish_wait_seconds=10", "--set", "train.micro_batch=1");
        Assert.That(code, Is.EqualTo(ExitCodes.Done), Launched.Error);
        Assert.That(Launched.Error, Does.Contain("mlflow sync --run"));
    }

    [Test]
    public void Rank_without_a_launcher_tells_its_run_by_itself()
    {
        Directory.CreateDirectory(Launched.Folder.Path);
        var config = Path.Combine(Launched.Folder.Path, "config.yaml");
        File.WriteAllText(config, Config.Replace("path: text.txt", "path: text.tokens", StringComparison.Ordinal));
        Assert.That(Launched.StartTrainer("data", "prepare", Path.Combine(Path.GetDirectoryName(Launched.ConfigFile)!, "text.txt"), "-o", Path.Combine(Launched.Folder.Path, "text.tokens")).End(), Is.Zero, Launched.Error);

        Assert.That(Launched.StartRank("train", "--config", config, "--backend", "single").End(), Is.Zero, Launched.Output + Launched.Error);
        Assert.That(OnlyRun.Status, Is.EqualTo("FINISHED"), Launched.Output);
        AssertRowsAreTheRunFolders(12);
    }

    private LaunchedRun StartTraining(params string[] more) =>
        Launched.StartTrainer(["--config", Launched.ConfigFile, "--run-dir", Launched.Folder.Path, "--ui", "plain", "--backend", "gloo", .. more]);

    private int Train(params string[] more) => StartTraining(more).End();

    private string Artifact(string name) => Encoding.UTF8.GetString(_server.Store.Artifacts[$"{OnlyRun.ExperimentId}/{OnlyRun.Id}/artifacts/{name}"]);

    private void AssertRowsAreTheRunFolders(int steps)
    {
        Assert.That(Rows.Of(OnlyRun, "train/loss").Select(point => point.Step), Is.EqualTo(Enumerable.Range(1, steps)));
        var rows = File.ReadLines(Launched.Folder.MetricsFile).Select(line => JsonNode.Parse(line)!).ToList();
        foreach (var key in new[] { "train/loss", "train/grad_norm", "train/lr", "eval/loss" })
        {
            var expected = rows.Where(row => row[key] is not null).Select(row => ((long)row["step"]!, (double)row[key]!));
            Assert.That(Rows.Of(OnlyRun, key), Is.EqualTo(expected), key);
        }
    }

    private void AssertNoSecret()
    {
        var files = Directory.EnumerateFiles(Launched.Folder.Path, "*", SearchOption.AllDirectories).Where(file => !file.EndsWith(".safetensors", StringComparison.Ordinal));
        Assert.That(files.Where(file => File.ReadAllText(file).Contains(Secret, StringComparison.Ordinal)), Is.Empty);
        Assert.That(Launched.Output + Launched.Error, Does.Not.Contain(Secret));
    }
}

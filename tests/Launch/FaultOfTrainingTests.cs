using Moe.Training.Checkpoints;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>Faults around real ranks: whatever happens, the last good checkpoint still loads.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class FaultOfTrainingTests
{
    private static readonly string[] Small =
    [
        "--backend", "gloo", "--set", "model={layers: 1, width: 16, heads: 2, sequence_length: 16, moe: {experts: 4, expert_width: 12}}",
        "--set", "train={micro_batch: 2, steps: 100000, log_every: 1000, eval_every: 0, checkpoint_every: 20, keep_checkpoints: 2, sample_tokens: 0}",
    ];

    private LaunchedRun _run = null!;

    // However it was wrapped.
    private string Words => string.Join(' ', _run.Error.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));

    private string Parent => Path.GetDirectoryName(_run.ConfigFile)!;

    [SetUp]
    public void CreateRun() => _run = new LaunchedRun();

    [TearDown]
    public void DisposeRun() => _run.Dispose();

    [Test]
    public void A_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_from_it()
    {
        using var disk = SmallDisk.Mount(Parent, "8m");
        var folder = new RunFolder(Path.Combine(disk.Folder, "run"));
        Train(folder.Path).Until("event=checkpoint");
        disk.Fill();

        var code = _run.End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(Words, Does.Match(@"what the checkpoint of step \d+ was not written: rank \d could not .*No space left on device"));
        Assert.That(Words, Does.Contain("try free space where the run folder lies"));
        Assert.That(_run.Error, Does.Not.Contain("   at "));
        Assert.That(Directory.GetDirectories(folder.CheckpointsFolder, "*.partial"), Is.Empty);
        AssertLastGoodLoads(folder);

        disk.Free();
        Train(folder.Path).Until("resumed_from=").Until("event=checkpoint");
        Assert.That(_run.Signal(2).End(), Is.EqualTo(ExitCodes.Stopped), _run.Error);
    }

    [Test]
    public void A_limit_of_file_sizes_keeps_the_last_checkpoint()
    {
        // 64 blocks of 1,024 bytes: rows and logs fit, a shard does not. The first checkpoint is made without the limit.
        Assert.That(Train(_run.Folder.Path, "--set", "train.stop_at_step=3").End(), Is.EqualTo(ExitCodes.Stopped), _run.Error);

        _run.Environment["LAUNCH_ARGUMENTS"] = string.Join('\n', Arguments(_run.Folder.Path));
        _run.Environment["DOTNET_EnableWriteXorExecute"] = "0"; // whose file in memory would be over the limit
        var code = _run.StartShellTrainer("ulimit -f 64; mapfile -t arguments <<< \"$LAUNCH_ARGUMENTS\"; exec $LAUNCH \"${arguments[@]}\"").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(Words, Does.Contain("was not written").And.Contain("ulimit -f"));
        Assert.That(Directory.GetDirectories(_run.Folder.CheckpointsFolder, "*.partial"), Is.Empty);
        AssertLastGoodLoads(_run.Folder);
    }

    [Test]
    public void A_full_disk_under_the_metrics_ends_the_run_with_their_file_named()
    {
        using var disk = SmallDisk.Mount(Parent, "8m");
        var folder = new RunFolder(Path.Combine(disk.Folder, "run"));
        Train(folder.Path, "--set", "train.log_every=1", "--set", "train.checkpoint_every=100000", "--set", "train.stop_at_step=2").End();
        Train(folder.Path, "--set", "train.log_every=1", "--set", "train.checkpoint_every=100000").Until("step=30/");
        disk.Fill();

        var code = _run.End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(Words, Does.Match(@"what No space left on device : '.*\.jsonl'").And.Contain("free space"));
        AssertLastGoodLoads(folder);
        disk.Free();
        Train(folder.Path, "--set", "train.log_every=1", "--set", "train.stop_at_step=40");
        Assert.That(_run.End(), Is.EqualTo(ExitCodes.Stopped), _run.Error);
        Assert.That(File.ReadLines(folder.MetricsFile).Select(line => System.Text.Json.JsonDocument.Parse(line).RootElement.GetProperty("step").GetInt32()), Is.EqualTo(Enumerable.Range(1, 40)), "half a row is gone");
    }

    [Test]
    public void A_killed_rank_is_named_and_the_last_checkpoint_loads()
    {
        Train(_run.Folder.Path).Until("event=checkpoint");

        LaunchedRun.SignalProcess(_run.ProcessOfRank(1), 9);
        var code = _run.End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), _run.Error);
        Assert.That(_run.Error, Does.Contain("root cause: rank 1").And.Contain("SIGKILL").And.Match("resume +from step_"));
        Assert.That(_run.Processes, Is.Empty);
        AssertLastGoodLoads(_run.Folder);
    }

    [Test]
    public void A_killed_launcher_is_told_by_eval_and_the_last_checkpoint_loads()
    {
        Train(_run.Folder.Path).Until("event=checkpoint").Signal(9).End();
        _run.Wait(() => _run.Processes.Count == 0, "the end of the ranks");
        AssertLastGoodLoads(_run.Folder);

        var code = _run.StartTrainer("eval", "--run", _run.Folder.Path).End();

        Assert.That(code, Is.Zero, _run.Error);
        Assert.That(_run.Error, Does.Contain("found: run: the launcher of attempt 1").And.Contain("its newest checkpoint is step_"));
        Assert.That(_run.Record.GetProperty("status").GetString(), Is.EqualTo("abandoned"));
    }

    private LaunchedRun Train(string folder, params string[] more) => _run.StartTrainer([.. Arguments(folder), .. more]);

    private string[] Arguments(string folder) => ["--config", _run.ConfigFile, "--run-dir", folder, "--ui", "plain", "--nodes", "2", .. Small];

    private static void AssertLastGoodLoads(RunFolder folder)
    {
        var passedOver = new List<string>();
        var newest = new CheckpointFolder(folder.CheckpointsFolder).NewestVerified(passedOver.Add);

        Assert.That(newest, Is.Not.Null);
        Assert.That(passedOver, Is.Empty, "no broken checkpoint has a final name");
    }
}

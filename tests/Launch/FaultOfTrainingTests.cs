using Moe.Training.Checkpoints;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>Faults around real ranks: whatever happens, the last good checkpoint still loads.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class FaultOfTrainingTests : LaunchTests
{
    private static readonly string[] Small =
    [
        "--backend", "gloo", "--set", "model={layers: 1, width: 16, heads: 2, sequence_length: 16, moe: {experts: 4, expert_width: 12}}",
        "--set", "train={micro_batch: 2, steps: 100000, log_every: 1000, eval_every: 0, checkpoint_every: 20, keep_checkpoints: 2, sample_tokens: 0}",
    ];

    // However it was wrapped.
    private string Words => string.Join(' ', Launched.Error.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));

    private string Parent => Path.GetDirectoryName(Launched.ConfigFile)!;

    [Test]
    public void A_full_disk_keeps_the_last_checkpoint_and_the_run_goes_on_from_it()
    {
        using var disk = SmallDisk.Mount(Parent, "8m");
        var folder = new RunFolder(Path.Combine(disk.Folder, "run"));
        Train(folder.Path).Until("event=checkpoint");
        disk.Fill();

        var code = Launched.End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Error);
        Assert.That(Words, Does.Match(@"what the checkpoint of step \d+ was not written: rank \d could not .*No space left on device"));
        Assert.That(Words, Does.Contain("try free space where the run folder lies"));
        Assert.That(Launched.Error, Does.Not.Contain("   at "));
        Assert.That(Directory.GetDirectories(folder.CheckpointsFolder, "*.partial"), Is.Empty);
        AssertLastGoodLoads(folder);

        disk.Free();
        Train(folder.Path).Until("resumed_from=").Until("event=checkpoint");
        Assert.That(Launched.Signal(2).End(), Is.EqualTo(ExitCodes.Stopped), Launched.Error);
    }

    [Test]
    public void A_limit_of_file_sizes_keeps_the_last_checkpoint()
    {
        // 64 blocks of 1,024 bytes: rows and logs fit, a shard does not. The first checkpoint is made without the limit.
        Assert.That(Train(Launched.Folder.Path, "--set", "train.stop_at_step=3").End(), Is.EqualTo(ExitCodes.Stopped), Launched.Error);

        Launched.Environment["LAUNCH_ARGUMENTS"] = string.Join('\n', Arguments(Launched.Folder.Path));
        Launched.Environment["DOTNET_EnableWriteXorExecute"] = "0"; // whose file in memory would be over the limit
        var code = Launched.StartShellTrainer("ulimit -f 64; mapfile -t arguments <<< \"$LAUNCH_ARGUMENTS\"; exec $LAUNCH \"${arguments[@]}\"").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Error);
        Assert.That(Words, Does.Contain("was not written").And.Contain("ulimit -f"));
        Assert.That(Directory.GetDirectories(Launched.Folder.CheckpointsFolder, "*.partial"), Is.Empty);
        AssertLastGoodLoads(Launched.Folder);
    }

    [Test]
    public void A_full_disk_under_the_metrics_ends_the_run_with_their_file_named()
    {
        using var disk = SmallDisk.Mount(Parent, "8m");
        var folder = new RunFolder(Path.Combine(disk.Folder, "run"));
        Train(folder.Path, "--set", "train.log_every=1", "--set", "train.checkpoint_every=100000", "--set", "train.stop_at_step=2").End();
        Train(folder.Path, "--set", "train.log_every=1", "--set", "train.checkpoint_every=100000").Until("step=30/");
        disk.Fill();

        var code = Launched.End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Error);
        Assert.That(Words, Does.Match(@"what No space left on device : '.*\.jsonl'").And.Contain("free space"));
        AssertLastGoodLoads(folder);
        disk.Free();
        Train(folder.Path, "--set", "train.log_every=1", "--set", "train.stop_at_step=40");
        Assert.That(Launched.End(), Is.EqualTo(ExitCodes.Stopped), Launched.Error);
        Assert.That(File.ReadLines(folder.MetricsFile).Select(line => System.Text.Json.JsonDocument.Parse(line).RootElement.GetProperty("step").GetInt32()), Is.EqualTo(Enumerable.Range(1, 40)), "half a row is gone");
    }

    [Test]
    public void A_killed_rank_is_named_and_the_last_checkpoint_loads()
    {
        Train(Launched.Folder.Path).Until("event=checkpoint");

        LaunchedRun.SignalProcess(Launched.ProcessOfRank(1), 9);
        var code = Launched.End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), Launched.Error);
        Assert.That(Launched.Error, Does.Contain("root cause: rank 1").And.Contain("SIGKILL").And.Match("resume +from step_"));
        Assert.That(Launched.Processes, Is.Empty);
        AssertLastGoodLoads(Launched.Folder);
    }

    [Test]
    public void A_killed_launcher_is_told_by_eval_and_the_last_checkpoint_loads()
    {
        Train(Launched.Folder.Path).Until("event=checkpoint").Signal(9).End();
        Launched.Wait(() => Launched.Processes.Count == 0, "the end of the ranks");
        AssertLastGoodLoads(Launched.Folder);

        var code = Launched.StartTrainer("eval", "--run", Launched.Folder.Path).End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Error, Does.Contain("found: run: the launcher of attempt 1").And.Contain("its newest checkpoint is step_"));
        Assert.That(Launched.Record.GetProperty("status").GetString(), Is.EqualTo("abandoned"));
    }

    private LaunchedRun Train(string folder, params string[] more) => Launched.StartTrainer([.. Arguments(folder), .. more]);

    private string[] Arguments(string folder) => ["--config", Launched.ConfigFile, "--run-dir", folder, "--ui", "plain", "--nodes", "2", .. Small];

    private static void AssertLastGoodLoads(RunFolder folder)
    {
        var passedOver = new List<string>();
        var newest = new CheckpointFolder(folder.CheckpointsFolder).NewestVerified(passedOver.Add);

        Assert.That(newest, Is.Not.Null);
        Assert.That(passedOver, Is.Empty, "no broken checkpoint has a final name");
    }
}

using Moe.Training.Hosting;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>What <c>launch mlflow sync</c> says to people and to scripts of runs that it cannot send.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class MlflowCommandTests : LaunchTests
{
    [Test]
    public void One_run_that_another_process_sends_is_refused_with_that_process_and_a_code()
    {
        var folder = Tracked("run");
        using var held = SenderLock.TryTake(folder);

        Assert.That(Sync("--run", folder.Path), Is.EqualTo(ExitCodes.Preflight), Launched.Error);
        Assert.That(Launched.Error, Does.Contain($"✗ nothing of run was sent: another process (pid {Environment.ProcessId} on {Environment.MachineName}) sends it").And.Contain("when that process has ended"));
        Assert.That(File.Exists(folder.TrackingFile), Is.False);
    }

    [Test]
    public void Runs_that_other_processes_send_are_counted_and_no_fault_of_all()
    {
        Tracked("all/done");
        using var held = SenderLock.TryTake(Tracked("all/trains"));

        Assert.That(Sync("--all", "all"), Is.Zero, Launched.Error);
        Assert.That(Launched.Output, Does.Contain("run=all/trains sent=0 busy: another process").And.EndsWith("runs=2 whole=1 busy=1 behind=0 unreadable=0\n"));
    }

    [Test]
    public void Damaged_and_unsent_runs_of_all_are_counted_and_keep_nothing_back()
    {
        Tracked("all/done");
        File.WriteAllText(Tracked("all/broken").TrackingStateFile, "{");
        var refused = Tracked("all/refused");
        (TrackingState.Read(refused.TrackingStateFile)! with { Uri = $"file://{Launched.ConfigFile}/mlruns" }).Write(refused.TrackingStateFile);

        Assert.That(Sync("--all", "all", "--wait", "1"), Is.EqualTo(ExitCodes.Communication), Launched.Error);
        Assert.That(Launched.Error, Does.Contain("mlflow.json' is damaged").And.Contain("MLflow lacks a part of all/refused"));
        Assert.That(Launched.Output, Does.EndWith("runs=3 whole=1 busy=0 behind=1 unreadable=1\n"));
    }

    private int Sync(params string[] arguments) => Launched.StartBare("done", ["mlflow", "sync", .. arguments]).End();

    // A run that was killed before it could tell a file store anything.
    private RunFolder Tracked(string name)
    {
        var folder = new RunFolder(Path.Combine(Launched.Scratch, name));
        Directory.CreateDirectory(folder.Path);
        new TrackingState($"file://{Launched.Scratch}/mlruns", "tiny", name, Guid.NewGuid().ToString("N"), 1).Write(folder.TrackingStateFile);
        return folder;
    }
}

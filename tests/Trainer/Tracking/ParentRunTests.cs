using Moe.Training.Hosting;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>The run that a sweep's runs are shown under, while the sweep goes on and when it ends.</summary>
internal sealed class ParentRunTests : TrackedRunFixture
{
    private static readonly Dictionary<string, string> Parameters = new() { ["seeds"] = "1, 2" };

    [Test]
    public async Task Parent_run_has_name_parameters_results_files_and_an_end()
    {
        File.WriteAllText(Path.Combine(Folder.Run.Path, "table.md"), "| 1 |");
        using (var parent = await OpenAsync())
        {
            Assert.That(parent.RunId, Is.EqualTo(OnlyRun.Id));
            Assert.That((OnlyRun.Name, OnlyRun.Status, OnlyRun.Parameters["seeds"]), Is.EqualTo(("run-1", "RUNNING", "1, 2")));
            await EndAsync(parent, ExitCodes.Done);
        }

        Assert.That(OnlyRun.Status, Is.EqualTo("FINISHED"));
        Assert.That(Rows.Of(OnlyRun, "sweep/best"), Is.EqualTo(new[] { (2L, 0.5) }));
        Assert.That(Server.Store.Artifacts.Keys.Single(), Does.EndWith("/artifacts/table.md"), "what is not there is not stored");
        Assert.That(Folder.Warnings, Is.Empty);
    }

    [Test]
    public async Task Sync_in_between_says_who_sends_the_parent_run_and_ends_nothing()
    {
        using var parent = await OpenAsync();
        var report = Folder.Sync();

        Assert.That((report.Outcome, report.Fault), Is.EqualTo((SyncOutcome.Busy, $"another process (pid {Environment.ProcessId} on {Environment.MachineName}) sends it")));
        await EndAsync(parent, ExitCodes.Stopped);
        Assert.That(OnlyRun.StatusHistory, Is.EqualTo(new[] { "RUNNING", "RUNNING", "SCHEDULED" }), "and at no time KILLED");
    }

    [Test]
    public async Task Sweep_that_is_continued_goes_on_in_its_parent_run()
    {
        using (var first = await OpenAsync())
        {
            await EndAsync(first, ExitCodes.Stopped);
        }

        using (var second = await OpenAsync())
        {
            Assert.That(second.RunId, Is.EqualTo(OnlyRun.Id));
            await EndAsync(second, ExitCodes.Done);
        }

        Assert.That(OnlyRun.StatusHistory, Is.EqualTo(new[] { "RUNNING", "RUNNING", "SCHEDULED", "RUNNING", "FINISHED" }));
    }

    [Test]
    public async Task Server_that_fails_at_first_costs_no_parent_run()
    {
        Server.Next(Interference.Plain503, Interference.Reset, Interference.TooMany());
        using var parent = await OpenAsync();

        Assert.That(parent.RunId, Is.EqualTo(OnlyRun.Id));
        Assert.That(Folder.Warnings, Is.Empty);
    }

    [Test]
    public async Task Server_that_stays_away_is_told_at_the_end_or_by_sync()
    {
        Server.Stop();
        Wait(seconds: 0.2);
        using (var parent = await OpenAsync(patience: 0.2))
        {
            Assert.That(parent.RunId, Is.Null);
            Assert.That(Folder.Warnings.Single(), Does.Contain("are shown without a parent run").And.Contain("cannot be reached"));
            await EndAsync(parent, ExitCodes.Failed);
        }

        Assert.That(Folder.Warnings, Has.Count.EqualTo(2).And.Some.Contains($"to send it: launch mlflow sync --run {Folder.Run.Path}"));
        Server.Start();
        Assert.That(Folder.Sync().Outcome, Is.EqualTo(SyncOutcome.Whole));
        Assert.That((OnlyRun.Status, OnlyRun.Parameters["seeds"]), Is.EqualTo(("FAILED", "1, 2")));
        Assert.That(Rows.Of(OnlyRun, "sweep/best"), Is.EqualTo(new[] { (2L, 0.5) }));
    }

    [Test]
    public async Task Journal_that_another_process_sends_is_not_touched_and_the_id_is_known_all_the_same()
    {
        using (var first = await OpenAsync())
        {
            await EndAsync(first, ExitCodes.Stopped);
        }

        Wait(seconds: 0.1);
        File.AppendAllText(Folder.Run.TrackingFile, "{\"kind\":\"metrics\",\"ti"); // a line that the other process is writing
        var before = File.ReadAllText(Folder.Run.TrackingFile);
        using (SenderLock.TryTake(Folder.Run))
        {
            using var second = await OpenAsync(patience: 0.1);
            Assert.That(second.RunId, Is.EqualTo(OnlyRun.Id));
            Assert.That(Folder.Warnings.Single(), Does.Contain("the sweep's parent run is told later: another process (pid "));
            await EndAsync(second, ExitCodes.Done);
        }

        Assert.That(File.ReadAllText(Folder.Run.TrackingFile), Is.EqualTo(before));
        Assert.That(Folder.Warnings, Has.Count.EqualTo(2).And.Some.Contains("was not told how the sweep ended: another process (pid "));
    }

    [Test]
    public async Task What_another_process_sent_at_the_start_is_told_whole_at_the_end()
    {
        var held = SenderLock.TryTake(Folder.Run)!;
        using var parent = await OpenAsync(patience: 0.1);
        held.Dispose();
        await EndAsync(parent, ExitCodes.Done);

        Assert.That((OnlyRun.Status, OnlyRun.Parameters["seeds"]), Is.EqualTo(("FINISHED", "1, 2")));
    }

    [Test]
    public async Task Damaged_state_costs_the_parent_run_alone()
    {
        File.WriteAllText(Folder.Run.TrackingStateFile, "{ half");
        using var parent = await OpenAsync();
        await EndAsync(parent, ExitCodes.Done);

        Assert.That(parent.RunId, Is.Null);
        Assert.That(Folder.Warnings, Has.Count.EqualTo(2).And.All.Contains($"'{Folder.Run.TrackingStateFile}' is damaged"));
    }

    private void Wait(double seconds) => Folder.Config = Folder.Config with { Tracking = Folder.Config.Tracking with { FinishWaitSeconds = seconds } };

    private async Task<ParentRun> OpenAsync(double patience = 20) =>
        (await ParentRun.OpenAsync(Folder.Config, Folder.Environment, Folder.Run, Parameters, TimeSpan.FromSeconds(patience), Folder.Warn))!;

    private static Task EndAsync(ParentRun parent, int exitCode) =>
        parent.EndAsync(2, new Dictionary<string, double> { ["sweep/best"] = 0.5 }, ["table.md", "sweep.svg"], exitCode);
}

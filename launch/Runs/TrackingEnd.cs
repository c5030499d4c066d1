using Moe.Launch.Supervision;
using Moe.Training.Configuration;
using Moe.Training.Tracking;

namespace Moe.Launch.Runs;

/// <summary>
/// The launcher's last word to MLflow, once rank 0 has ended: how the run ended, which a killed rank could not say, and what was written since.
/// </summary>
internal static class TrackingEnd
{
    // Who asked twice to leave does not want to wait.
    private static readonly TimeSpan ShortWait = TimeSpan.FromSeconds(1.5);

    /// <summary>Sends what is left of a tracked run, for no longer than the run itself would wait, and says in one line which command finishes it.</summary>
    public static async Task ConcludeAsync(RankPlan plan, RunOutcome outcome, TrackingConfig config, LaunchHost host)
    {
        if (plan.Mode != "train" || !RunSync.IsTracked(plan.Folder))
        {
            return;
        }

        try
        {
            var connection = TrackingEnvironment.Read(host.Variable).Connection;
            var report = await RunSync.SendAsync(
                plan.Folder, connection, Wait(plan, outcome, config), line => host.Screen.Error.WriteLine($"warning: {line}"), ended: TrackedStatus.Of(outcome.ExitCode)).ConfigureAwait(false);
            if (report.Outcome is SyncOutcome.Behind or SyncOutcome.Busy)
            {
                host.Screen.Error.WriteLine(
                    $"MLflow at {report.State!.Uri} lacks the end of this run{(report.Fault is null ? "" : $" ({report.Fault})")}; to send it: {host.Command} mlflow sync --run {host.Shorten(plan.Folder.Path)}");
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            host.Screen.Error.WriteLine($"warning: MLflow was not told how the run ended: {e.Message}");
        }
    }

    // A rank that ended in order has waited already, if there was something to wait for.
    private static TimeSpan Wait(RankPlan plan, RunOutcome outcome, TrackingConfig config)
    {
        var hasWaited = outcome.RootCause is null && RunSync.Inspect(plan.Folder) is (_, > 0, _);
        return hasWaited || outcome.ExitCode > 128 || config.FinishWaitSeconds < ShortWait.TotalSeconds ? ShortWait : TimeSpan.FromSeconds(config.FinishWaitSeconds);
    }
}

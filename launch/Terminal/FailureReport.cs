using Moe.Launch.Supervision;
using Moe.Training.Hosting;

namespace Moe.Launch.Terminal;

/// <summary>Prints how a run failed, on one screen: what, where, why, what to try, and where the rest is.</summary>
internal static class FailureReport
{
    private const int LongestWhy = 600;

    /// <param name="screen">Where to.</param>
    /// <param name="plan">What ran.</param>
    /// <param name="outcome">How it ended, with a root cause.</param>
    /// <param name="folder">The run folder, as the user would write it.</param>
    /// <param name="command">How the user calls this program.</param>
    public static void Write(Screen screen, RankPlan plan, RunOutcome outcome, string folder, string command)
    {
        var cause = outcome.RootCause!;
        var failure = cause.Failure;
        var process = cause.ProcessId is { } id ? $", pid {id}" : "";
        var step = failure.Step > 0 ? $" at step {failure.Step}" : "";
        screen.WriteHeadline(
            $"{plan.Mode} failed after {MetricText.Duration(outcome.Elapsed)}{step}; root cause: rank {failure.Rank} ({plan.Place(failure.Rank)}{process})");
        screen.WriteParagraph("what", failure.What);
        WriteIfAny(screen, "where", failure.Where);
        WriteIfAny(screen, "why", failure.Why is { Length: > LongestWhy } why ? why[..LongestWhy] + " ..." : failure.Why);
        WriteIfAny(screen, "try", failure.Try);
        if (cause.Others > 0)
        {
            screen.WriteParagraph("others", $"{cause.Others} rank(s) stopped by the launcher");
        }

        screen.WriteParagraph("log", new RunFolder(folder).LogFile(failure.Rank));
        if (LatestCheckpoint(plan.Folder) is { } checkpoint && plan.Mode == "train" && outcome.ExitCode != ExitCodes.Checkpoint)
        {
            screen.WriteParagraph("resume", $"from {checkpoint}: {ContinueCommand(plan, folder, command)}");
        }
    }

    /// <summary>The command that continues a run from its newest checkpoint.</summary>
    public static string ContinueCommand(RankPlan plan, string folder, string command) =>
        $"{command} --config {new RunFolder(folder).ConfigFile} --run-dir {folder} --nodes {plan.Nodes} --procs-per-node {plan.ProcessesPerNode} --backend {plan.Backend}";

    /// <summary>Name of the newest complete checkpoint; null where there is none.</summary>
    private static string? LatestCheckpoint(RunFolder folder) =>
        File.Exists(folder.LatestFile) ? File.ReadAllText(folder.LatestFile).Trim() : null;

    private static void WriteIfAny(Screen screen, string label, string? text)
    {
        if (!string.IsNullOrWhiteSpace(text))
        {
            screen.WriteParagraph(label, text);
        }
    }
}

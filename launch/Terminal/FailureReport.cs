using Moe.Launch.Hosts;
using Moe.Launch.Runs;
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
        var isOfRank = failure.Rank != RankFailure.OfLauncher;
        var process = cause.ProcessId is { } id ? $", pid {id}" : "";
        var step = failure.Step > 0 ? $" at step {failure.Step}" : "";
        screen.WriteHeadline(
            $"{plan.Mode} failed after {MetricText.Duration(outcome.Elapsed)}{step}" + (isOfRank ? $"; root cause: rank {failure.Rank} ({plan.Place(failure.Rank)}{process})" : ""));
        screen.WriteParagraph("what", failure.What);
        WriteIfAny(screen, "where", failure.Where);
        WriteIfAny(screen, "why", failure.Why is { Length: > LongestWhy } why ? why[..LongestWhy] + " ..." : failure.Why);
        WriteIfAny(screen, "try", failure.Try);
        if (cause.Others > 0)
        {
            screen.WriteParagraph("others", $"{cause.Others} rank(s) stopped by the launcher");
        }

        if (isOfRank && File.Exists(plan.Folder.LogFile(failure.Rank)))
        {
            screen.WriteParagraph("log", new RunFolder(folder).LogFile(failure.Rank));
        }

        if (AbandonedRuns.LatestCheckpoint(plan.Folder) is { } checkpoint && plan.Mode == "train" && outcome.ExitCode != ExitCodes.Checkpoint)
        {
            screen.WriteParagraph("resume", $"from {checkpoint}: {ContinueCommand(plan, folder, command)}");
        }

        if (screen.Verbosity == Verbosity.Detailed && failure.Stack is { } stack)
        {
            WriteStack(screen, stack);
        }
    }

    /// <summary>Prints an exception with its stack, for <c>--verbosity d</c>.</summary>
    public static void WriteStack(Screen screen, string stack)
    {
        screen.Error.WriteLine("  stack");
        foreach (var line in stack.Split('\n'))
        {
            screen.Error.WriteLine($"    {line.TrimEnd()}");
        }
    }

    /// <summary>The command that continues a run from its newest checkpoint.</summary>
    public static string ContinueCommand(RankPlan plan, string folder, string command) =>
        $"{command} --config {new RunFolder(folder).ConfigFile} --run-dir {folder} --nodes {plan.Nodes} --procs-per-node {plan.ProcessesPerNode} --backend {plan.Backend}"
        + string.Concat(plan.Placement.Options.Select(word => $" {ShellWords.Quote(word)}"));

    private static void WriteIfAny(Screen screen, string label, string? text)
    {
        if (!string.IsNullOrWhiteSpace(text))
        {
            screen.WriteParagraph(label, text);
        }
    }
}

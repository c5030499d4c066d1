using System.Text.Json;
using Moe.Launch.Supervision;
using Moe.Training.Hosting;

namespace Moe.Launch.Runs;

/// <summary>
/// Runs whose launcher ended without a word (SIGKILL, a power cut). Their run.json would say <c>running</c> for good; whichever command meets
/// one next says what it found and puts it right.
/// </summary>
internal static class AbandonedRuns
{
    public const string LockName = "run.lock";

    private const string Status = "abandoned";

    /// <summary>Whether the record is of a run that nobody has ended.</summary>
    public static bool IsOpen(RunRecord record) => record.Status is "starting" or "running" or "stopping";

    /// <summary>Puts one run right, if it was abandoned.</summary>
    /// <param name="folder">Any folder; one without a record is left alone.</param>
    /// <returns>What was found, for the user; null where nothing was wrong, or the run is alive.</returns>
    public static string? Settle(RunFolder folder)
    {
        if (Readable(folder) is not { } record || !IsOpen(record))
        {
            return null;
        }

        try
        {
            using var held = FolderLock.TryTake(Path.Combine(folder.Path, LockName));
            return held is null ? null : Settle(folder, record);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null; // somebody else's folder: it is only looked at
        }
    }

    /// <summary>Puts right all abandoned runs of this machine in a folder of runs.</summary>
    /// <param name="runsFolder">It may be missing.</param>
    /// <returns>What was found, one sentence a run.</returns>
    public static IReadOnlyList<string> SettleAll(string runsFolder)
    {
        if (!Directory.Exists(runsFolder))
        {
            return [];
        }

        // A lock is tried only where the launcher's process is gone: a launcher that just opens its folder must not find it taken.
        return [.. Directory.EnumerateDirectories(runsFolder)
            .Select(path => new RunFolder(path))
            .Where(folder => Readable(folder) is { } record
                && IsOpen(record) && record.Host == Environment.MachineName && !Directory.Exists($"/proc/{record.LauncherPid}"))
            .Select(Settle)
            .OfType<string>()];
    }

    /// <summary>Puts a run right whose lock the caller holds.</summary>
    /// <exception cref="IOException">The record cannot be written.</exception>
    public static string Settle(RunFolder folder, RunRecord record)
    {
        var step = LastStep(folder.MetricsFile);
        var checkpoint = LatestCheckpoint(folder);
        var after = step > 0 ? MetricsStep(step) : "";
        var text = $"the launcher of attempt {record.Attempt} (pid {record.LauncherPid} on {record.Host}) ended without a word{after}: it was killed, or the machine went down";
        (record with { Status = Status, End = LastSignOfLife(folder) }).Write(folder.RunFile);
        File.AppendAllText(
            folder.EventsFile, JsonSerializer.Serialize(new RunEvent(DateTime.UtcNow, Status, step > 0 ? step : null, text), RunJson.Default.RunEvent) + "\n");
        return $"{record.Id}: {text}; {(checkpoint is null ? "it has no checkpoint" : $"its newest checkpoint is {checkpoint}")}";
    }

    /// <summary>Name of the newest complete checkpoint; null where there is none.</summary>
    public static string? LatestCheckpoint(RunFolder folder)
    {
        try
        {
            return File.Exists(folder.LatestFile) ? File.ReadAllText(folder.LatestFile).Trim() : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    // Runs of other users may stand in the same folder: what cannot be read must not keep a new run from starting.
    private static RunRecord? Readable(RunFolder folder)
    {
        try
        {
            return RunRecord.Read(folder.RunFile);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    private static string MetricsStep(long step) => FormattableString.Invariant($" after step {step}");

    private static DateTime LastSignOfLife(RunFolder folder) => new[] { folder.MetricsFile, folder.EventsFile, folder.RunFile }
        .Where(File.Exists).Select(File.GetLastWriteTimeUtc).Max();

    // Of the last row that is whole.
    private static long LastStep(string metrics)
    {
        foreach (var line in RankOutput.LastLines(metrics, 2).Reverse())
        {
            try
            {
                using var row = JsonDocument.Parse(line);
                if (row.RootElement.TryGetProperty("step", out var step))
                {
                    return step.GetInt64();
                }
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException)
            {
                // Cut off with the run.
            }
        }

        return 0;
    }
}

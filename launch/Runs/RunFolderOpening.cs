using System.Globalization;
using System.Security.Cryptography;
using Moe.Training.Hosting;

namespace Moe.Launch.Runs;

/// <summary>A run folder that this launcher holds: no other launcher works in it until it is disposed.</summary>
internal sealed class RunFolderOpening : IDisposable
{
    private readonly FolderLock _lock;
    private readonly RunRecord? _earlier;

    private RunFolderOpening(RunFolder folder, string id, RunRecord? earlier, IReadOnlyList<string> findings, FolderLock heldLock)
    {
        Folder = folder;
        Id = id;
        Findings = findings;
        _earlier = earlier;
        _lock = heldLock;
    }

    public RunFolder Folder { get; }

    /// <summary>The run's name: that of the folder's earlier attempt, else that of the folder.</summary>
    public string Id { get; }

    /// <summary>1 for a new run.</summary>
    public int Attempt => (_earlier?.Attempt ?? 0) + 1;

    /// <summary>What there is to say of runs that were found without their launchers, one sentence each.</summary>
    public IReadOnlyList<string> Findings { get; }

    /// <summary>Whether an earlier attempt has ended well, with a checkpoint of the last step: then nothing is left to do.</summary>
    /// <param name="steps">Number of the last step.</param>
    public bool IsFinished(long steps) => _earlier is { Status: "done", Mode: "train" }
        && AbandonedRuns.LatestCheckpoint(Folder)?.Split('_') is [_, var number]
        && long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out var step) && step >= steps;

    /// <summary>Makes a new folder below <paramref name="runsFolder"/>, named after time and run, as in <c>2026-11-22_0204-quickstart-a1b2</c>.</summary>
    public static RunFolderOpening Create(string runsFolder, string name)
    {
        var time = DateTime.UtcNow.ToString("yyyy-MM-dd_HHmm", CultureInfo.InvariantCulture);
        var id = $"{time}-{name}-{Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(2))}";
        return Open(new RunFolder(Path.Combine(runsFolder, id)), id, earlier: null, AbandonedRuns.SettleAll(runsFolder));
    }

    /// <summary>Opens the folder that the user named: a new or empty one, or a run to continue.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="mode">Of the run, as in <see cref="RunRecord"/>.</param>
    /// <param name="startsAfresh">True where nothing is to be continued: then the folder must hold nothing.</param>
    /// <exception cref="LaunchException">
    /// It holds something else than a run, a run of another mode, or one that must not be continued; or another launcher holds it.
    /// </exception>
    public static RunFolderOpening OpenNamed(string path, string mode, bool startsAfresh)
    {
        var folder = new RunFolder(Path.GetFullPath(path));
        var earlier = RunRecord.Read(folder.RunFile);
        if (RunRecord.IsDamaged(folder.RunFile))
        {
            return OpenDamaged(folder, path, mode, startsAfresh);
        }

        if (earlier is not null && earlier.Mode != mode)
        {
            throw new LaunchException(
                ExitCodes.Usage, $"'{path}' holds the run {earlier.Id} of launch {earlier.Mode}, which launch {mode} would write over", "another --run-dir, or none for a new folder");
        }

        if (earlier is not null && startsAfresh)
        {
            throw new LaunchException(
                ExitCodes.Usage, $"'{path}' holds the run {earlier.Id} ({earlier.Status}), and --resume none would mix a new run into it",
                "another --run-dir, or --resume auto to continue it");
        }

        if (earlier is null && !IsEmpty(folder))
        {
            throw new LaunchException(ExitCodes.Usage, $"'{path}' is neither empty nor a run folder (it has no run.json)", "another --run-dir");
        }

        return Open(folder, earlier?.Id ?? NameOf(folder), earlier, findings: []);
    }

    /// <summary>Writes the run's first record, then makes room for what the run writes: a folder without a record holds nothing.</summary>
    /// <param name="record">The first state.</param>
    /// <param name="warn">Told when a file cannot be written later on.</param>
    /// <exception cref="IOException">The record or a folder cannot be written.</exception>
    public RunRecorder Begin(RunRecord record, Action<string> warn)
    {
        var recorder = new RunRecorder(Folder, record, warn);
        try
        {
            Directory.CreateDirectory(Folder.LogsFolder);
            Directory.CreateDirectory(Folder.CheckpointsFolder);
            if (Directory.Exists(Folder.ErrorsFolder))
            {
                Directory.Delete(Folder.ErrorsFolder, recursive: true); // of an earlier attempt
            }
        }
        catch (Exception e)
        {
            recorder.Failed(e.Message, ExitCodes.Preflight);
            throw;
        }

        return recorder;
    }

    /// <summary>Lets other launchers have the folder.</summary>
    public void Dispose() => _lock.Dispose();

    // What counts is in the checkpoints: without its record a training goes on all the same.
    private static RunFolderOpening OpenDamaged(RunFolder folder, string path, string mode, bool startsAfresh)
    {
        if (mode != "train" || startsAfresh || AbandonedRuns.LatestCheckpoint(folder) is not { } latest)
        {
            throw new LaunchException(
                ExitCodes.Usage, $"'{path}' holds a run whose run.json is damaged, so that nothing is known of it", "another --run-dir; launch train --run-dir continues a training that has checkpoints");
        }

        return Open(folder, NameOf(folder), earlier: null, [$"run.json of '{path}' is damaged and made anew, its attempts counted from 1; its newest checkpoint is {latest}"]);
    }

    // Apart from what a launcher leaves that was killed before its record stood.
    private static bool IsEmpty(RunFolder folder) => !Directory.Exists(folder.Path)
        || !Directory.EnumerateFileSystemEntries(folder.Path).Select(Path.GetFileName).Except([AbandonedRuns.LockName, Path.GetFileName(folder.RunFile) + ".tmp"]).Any();

    private static string NameOf(RunFolder folder) => Path.GetFileName(Path.TrimEndingDirectorySeparator(folder.Path));

    private static RunFolderOpening Open(RunFolder folder, string id, RunRecord? earlier, IReadOnlyList<string> findings)
    {
        try
        {
            Directory.CreateDirectory(folder.Path);
            var held = FolderLock.TryTake(Path.Combine(folder.Path, AbandonedRuns.LockName)) ?? throw InUse(folder);
            if (earlier is not null && AbandonedRuns.IsOpen(earlier))
            {
                findings = [.. findings, AbandonedRuns.Settle(folder, earlier)];
            }

            return new RunFolderOpening(folder, id, earlier, findings, held);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new LaunchException(ExitCodes.Preflight, $"the run folder cannot be made: {e.Message}", "another --run-dir, or write permission for this user");
        }
        catch (IOException e)
        {
            throw new LaunchException(
                ExitCodes.Preflight, $"the run folder '{folder.Path}' cannot be used: {e.Message}", DiskFault.Remedy(e) ?? "another --run-dir; launch doctor says what can be written");
        }
    }

    private static LaunchException InUse(RunFolder folder)
    {
        var by = RunRecord.Read(folder.RunFile) is { } record && AbandonedRuns.IsOpen(record)
            ? FormattableString.Invariant($"a launcher works in it (pid {record.LauncherPid} on {record.Host}, since {record.Start:yyyy-MM-dd HH:mm:ss} UTC)")
            : "another launcher works in it";
        var stop = RunRecord.Read(folder.RunFile) is { } running && AbandonedRuns.IsOpen(running) && running.Host == Environment.MachineName
            ? FormattableString.Invariant($"kill {running.LauncherPid} to stop it with a checkpoint, ")
            : "";
        return new LaunchException(ExitCodes.Preflight, $"the run folder '{folder.Path}' is in use: {by}", $"{stop}wait for its end, or take another --run-dir");
    }
}

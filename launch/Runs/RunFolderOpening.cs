using System.Globalization;
using System.Security.Cryptography;
using Moe.Training.Hosting;

namespace Moe.Launch.Runs;

/// <summary>A run folder that this launcher holds: no other launcher works in it until it is disposed.</summary>
internal sealed class RunFolderOpening : IDisposable
{
    private const string LockName = "run.lock";

    private readonly FileStream _lock;

    private RunFolderOpening(RunFolder folder, string id, int attempt, FileStream heldLock)
    {
        Folder = folder;
        Id = id;
        Attempt = attempt;
        _lock = heldLock;
    }

    public RunFolder Folder { get; }

    /// <summary>The run's name: that of the folder's earlier attempt, else that of the folder.</summary>
    public string Id { get; }

    /// <summary>1 for a new run.</summary>
    public int Attempt { get; }

    /// <summary>Makes a new folder below <paramref name="runsFolder"/>, named after time and run, as in <c>2026-11-22_0204-quickstart-a1b2</c>.</summary>
    public static RunFolderOpening Create(string runsFolder, string name)
    {
        var time = DateTime.UtcNow.ToString("yyyy-MM-dd_HHmm", CultureInfo.InvariantCulture);
        var id = $"{time}-{name}-{Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(2))}";
        return Open(new RunFolder(Path.Combine(runsFolder, id)), id, 1);
    }

    /// <summary>Opens the folder that the user named: a new or empty one, or a run to continue.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="startsAfresh">True where nothing is to be continued: then the folder must hold nothing.</param>
    /// <exception cref="LaunchException">It holds something else than a run, or a run that must not be continued, or another launcher holds it.</exception>
    public static RunFolderOpening OpenNamed(string path, bool startsAfresh)
    {
        var folder = new RunFolder(Path.GetFullPath(path));
        var earlier = RunRecord.Read(folder.RunFile);
        var isEmpty = !Directory.Exists(path) || !Directory.EnumerateFileSystemEntries(path).Any(entry => Path.GetFileName(entry) != LockName);
        if (earlier is not null && startsAfresh)
        {
            throw new LaunchException(
                ExitCodes.Usage, $"'{path}' holds the run {earlier.Id} ({earlier.Status}), and --resume none would mix a new run into it",
                "another --run-dir, or --resume auto to continue it");
        }

        if (earlier is null && !isEmpty)
        {
            throw new LaunchException(ExitCodes.Usage, $"'{path}' is neither empty nor a run folder (it has no run.json)", "another --run-dir");
        }

        return Open(folder, earlier?.Id ?? Path.GetFileName(Path.TrimEndingDirectorySeparator(folder.Path)), (earlier?.Attempt ?? 0) + 1);
    }

    /// <summary>Lets other launchers have the folder.</summary>
    public void Dispose() => _lock.Dispose();

    private static RunFolderOpening Open(RunFolder folder, string id, int attempt)
    {
        try
        {
            Directory.CreateDirectory(folder.Path);

            // An advisory lock that the kernel drops with the process, so that a killed launcher leaves nothing to clean up.
            var opening = new RunFolderOpening(
                folder, id, attempt, new FileStream(Path.Combine(folder.Path, LockName), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
            Directory.CreateDirectory(folder.LogsFolder);
            Directory.CreateDirectory(folder.CheckpointsFolder);
            if (Directory.Exists(folder.ErrorsFolder))
            {
                Directory.Delete(folder.ErrorsFolder, recursive: true); // of an earlier attempt
            }

            return opening;
        }
        catch (UnauthorizedAccessException e)
        {
            throw new LaunchException(ExitCodes.Preflight, $"the run folder cannot be made: {e.Message}", "another --run-dir");
        }
        catch (IOException e)
        {
            throw new LaunchException(ExitCodes.Preflight, $"the run folder '{folder.Path}' cannot be used: {e.Message}", "another --run-dir, or wait for the launcher that holds it");
        }
    }
}

using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Moe.Launch.Runs;
using Moe.Training.Hosting;
using Moe.Training.Reports;

namespace Moe.Launch.Dashboard;

/// <summary>The runs that a page may show: folders with a run.json directly below one folder, or one run alone. Nothing outside of it is ever read.</summary>
/// <remarks>
/// A name with a separator, or one that stands for this folder or the one above, is none. What is opened must be a regular file that lies within the folder by
/// its real path, as the kernel knows it of the open file, so that no link leads out, however it is swapped meanwhile.
/// </remarks>
internal sealed partial class RunCatalog
{
    private readonly string _root;
    private readonly string? _only;

    private RunCatalog(string root, string? only)
    {
        _root = root;
        _only = only;
    }

    /// <summary>The runs of a folder, or the one whose folder it is.</summary>
    public static RunCatalog At(string folder)
    {
        var path = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        return File.Exists(new RunFolder(path).RunFile) ? One(path) : new RunCatalog(path, null);
    }

    /// <summary>What the page of a training shows: the project's runs where the run is one of them, else that run alone.</summary>
    /// <param name="runFolder">As the user named it; null for a new one among the project's.</param>
    /// <param name="host">Knows where the project is.</param>
    public static RunCatalog Of(string? runFolder, LaunchHost host)
    {
        var runs = Repository.RunsFolder(host.WorkingDirectory);
        if (runFolder is null)
        {
            return new RunCatalog(runs, null);
        }

        var path = Path.TrimEndingDirectorySeparator(Path.GetFullPath(runFolder, host.WorkingDirectory));
        return Path.GetDirectoryName(path) == Path.TrimEndingDirectorySeparator(runs) ? new RunCatalog(runs, null) : One(path);
    }

    /// <summary>The runs, the newest first as far as names tell.</summary>
    /// <param name="open">Of <see cref="Opener"/>.</param>
    public IReadOnlyList<(string Name, RunFolder Folder)> Runs(OpenRunFile open)
    {
        if (!Directory.Exists(_root))
        {
            return [];
        }

        var names = _only is not null ? [_only] : Directory.EnumerateDirectories(_root).Select(path => Path.GetFileName(path));
        return [.. names.Select(name => (Name: name, Folder: new RunFolder(Path.Combine(_root, name)))).Where(run => IsRun(run.Folder, open)).OrderByDescending(run => run.Name, StringComparer.Ordinal)];
    }

    /// <summary>The folder of a run; null where there is none of that name.</summary>
    public RunFolder? Find(string name)
    {
        var mayBe = _only is not null ? _only == name : name is not ("" or "." or "..") && !name.AsSpan().ContainsAny('/', '\0');
        return mayBe && new RunFolder(Path.Combine(_root, name)) is var folder && IsRun(folder, Open) ? folder : null;
    }

    /// <summary>Opens a regular file that lies within the folder, whatever links lead to it.</summary>
    /// <returns>The file, open beside whoever writes it; null where there is none that may be read.</returns>
    public Stream? Open(string path) => Open(path, RealRoot());

    /// <summary>As <see cref="Open(string)"/> for one request: where the folder really lies is looked up once for all of its files.</summary>
    public OpenRunFile Opener()
    {
        var root = RealRoot();
        return path => Open(path, root);
    }

    private static FileStream? Open(string path, string? root)
    {
        const int ReadOnly = 0, NonBlocking = 0x800, CloseOnExec = 0x80000;

        // Without waiting, as a pipe would for its writer; of a regular file this changes nothing.
        var handle = new SafeFileHandle(OpenFile(path, ReadOnly | NonBlocking | CloseOnExec), ownsHandle: true);
        FileStream? stream = null;
        try
        {
            if (root is not null && !handle.IsInvalid && !File.GetAttributes(handle).HasFlag(FileAttributes.Directory)
                && new FileInfo($"/proc/self/fd/{handle.DangerousGetHandle()}").LinkTarget?.StartsWith(root + "/", StringComparison.Ordinal) == true)
            {
                stream = new FileStream(handle, FileAccess.Read);
                if (stream.CanSeek) // no pipe
                {
                    return stream;
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Not there any more, or not for this user: for a page it is the same.
        }

        stream?.Dispose();
        handle.Dispose();
        return null;
    }

    private static RunCatalog One(string path) => new(Path.GetDirectoryName(path)!, Path.GetFileName(path));

    private static bool IsRun(RunFolder folder, OpenRunFile open)
    {
        using var record = open(folder.RunFile);
        return record is not null;
    }

    // Of one run alone the root is its own folder.
    private unsafe string? RealRoot()
    {
        const int MostBytes = 4096; // PATH_MAX
        var buffer = stackalloc byte[MostBytes];
        return RealPath(_only is null ? _root : Path.Combine(_root, _only), buffer) == 0 ? null : Marshal.PtrToStringUTF8((nint)buffer);
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenFile(string path, int flags);

    [LibraryImport("libc", EntryPoint = "realpath", StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial nint RealPath(string path, byte* resolved);
}

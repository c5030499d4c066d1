namespace Moe.Launch.Runs;

/// <summary>
/// Says that a launcher works in a folder: an advisory lock on a file in it, which the kernel drops with the process, so that a killed
/// launcher leaves nothing to clean up.
/// </summary>
internal sealed class FolderLock : IDisposable
{
    private const int WouldBlock = 11; // EWOULDBLOCK

    private readonly FileStream _file;

    private FolderLock(FileStream file) => _file = file;

    /// <summary>Takes the lock.</summary>
    /// <param name="path">The file, made where it is missing.</param>
    /// <returns>Null where another process holds it.</returns>
    /// <exception cref="IOException">The file cannot be made.</exception>
    public static FolderLock? TryTake(string path)
    {
        try
        {
            return new FolderLock(new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
        }
        catch (IOException e) when (e.HResult == WouldBlock)
        {
            return null;
        }
    }

    /// <summary>Lets others have the folder.</summary>
    public void Dispose() => _file.Dispose();
}

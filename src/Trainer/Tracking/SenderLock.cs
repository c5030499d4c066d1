using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>The right to send a run's journal: one process has it at a time. The kernel takes it back from a process that ends.</summary>
internal sealed class SenderLock : IDisposable
{
    private readonly FileStream _file;

    private SenderLock(FileStream file) => _file = file;

    /// <summary>Takes the right; null where another process has it.</summary>
    /// <exception cref="UnauthorizedAccessException">The run folder cannot be written.</exception>
    public static SenderLock? TryTake(RunFolder folder)
    {
        try
        {
            return new SenderLock(new FileStream(folder.TrackingLockFile, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None));
        }
        catch (IOException e) when (e is not DirectoryNotFoundException)
        {
            return null;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();
}

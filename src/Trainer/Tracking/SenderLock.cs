using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Moe.Training.Hosting;

namespace Moe.Training.Tracking;

/// <summary>The right to send a run's journal: one process has it at a time. The kernel takes it back from a process that ends.</summary>
internal sealed partial class SenderLock : IDisposable
{
    private const int WouldBlock = 11; // EWOULDBLOCK
    private const int ReadOnly = 0x80000; // O_RDONLY | O_CLOEXEC
    private const int LongestName = 300; // of a process and its machine

    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(50);

    private readonly FileStream _file;

    private SenderLock(FileStream file) => _file = file;

    /// <summary>Takes the right; null where another process has it.</summary>
    /// <exception cref="IOException">The lock's file cannot be made: the disk is full or broken, or can only be read.</exception>
    /// <exception cref="UnauthorizedAccessException">The run folder cannot be written.</exception>
    public static SenderLock? TryTake(RunFolder folder)
    {
        FileStream file;
        try
        {
            file = new FileStream(folder.TrackingLockFile, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        }
        catch (IOException e) when (e.HResult == WouldBlock)
        {
            return null;
        }

        Sign(file);
        return new SenderLock(file);
    }

    /// <inheritdoc cref="TryTake(RunFolder)"/>
    /// <param name="folder">Of the run.</param>
    /// <param name="patience">How long to wait for a process that has it.</param>
    public static SenderLock? TryTake(RunFolder folder, TimeSpan patience)
    {
        for (var clock = System.Diagnostics.Stopwatch.StartNew(); ; Thread.Sleep(Interval))
        {
            if (TryTake(folder) is { } taken)
            {
                return taken;
            }

            if (clock.Elapsed > patience)
            {
                return null;
            }
        }
    }

    /// <summary>Who has the right, for a message: <c>another process (pid 4711 on node-3)</c>, or without the number where it left none.</summary>
    public static string Holder(RunFolder folder)
    {
        const string Somebody = "another process";
        try
        {
            // A FileStream would ask for a lock of its own, which it cannot have now.
            using var handle = new SafeFileHandle(Open(folder.TrackingLockFile, ReadOnly), ownsHandle: true);
            var bytes = new byte[LongestName];
            var text = handle.IsInvalid ? "" : Encoding.UTF8.GetString(bytes, 0, RandomAccess.Read(handle, bytes, 0));
            return text.Trim().Split(' ') is [var process, var machine] ? $"{Somebody} (pid {process} on {machine})" : Somebody;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return Somebody;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();

    private static void Sign(FileStream file)
    {
        try
        {
            file.SetLength(0);
            file.Write(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{Environment.ProcessId} {Environment.MachineName}\n")));
        }
        catch (Exception e) when (DiskFault.IsOne(e))
        {
            // On a full disk the right is held all the same, namelessly; what is to be written next meets the fault and tells it.
        }
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);
}

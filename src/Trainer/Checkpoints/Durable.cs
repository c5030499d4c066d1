using System.Runtime.InteropServices;

namespace Moe.Training.Checkpoints;

/// <summary>Writing that survives a power cut: a file has its final name only once its bytes are on the disk.</summary>
public static partial class Durable
{
    private const int ReadOnlyDirectory = 0x10000; // O_RDONLY | O_DIRECTORY

    /// <summary>Writes a temporary file beside <paramref name="path"/>, syncs it and renames it.</summary>
    /// <param name="path">The file, which stays as it was if this fails.</param>
    /// <param name="bytes">All of it.</param>
    /// <exception cref="IOException">The folder is missing, or the disk full.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder can't be written to.</exception>
    public static void WriteAllBytes(string path, byte[] bytes)
    {
        var temporary = path + ".tmp";
        var isWhole = false;
        try
        {
            using var stream = new FileStream(temporary, FileMode.Create, FileAccess.Write);
            stream.Write(bytes);
            stream.Flush(flushToDisk: true);
            isWhole = true;
        }
        finally
        {
            if (!isWhole)
            {
                File.Delete(temporary); // half of it, on a full disk
            }
        }

        File.Move(temporary, path, overwrite: true);
        Sync(Path.GetDirectoryName(Path.GetFullPath(path))!);
    }

    /// <summary>Makes renames within a folder durable; .NET has no name for a sync of a folder.</summary>
    /// <param name="folder">Its path.</param>
    public static void Sync(string folder)
    {
        var descriptor = Open(folder, ReadOnlyDirectory);
        if (descriptor >= 0)
        {
            // Some file systems refuse to sync a folder; the rename stands all the same.
            _ = SyncDescriptor(descriptor);
            _ = Close(descriptor);
        }
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync")]
    private static partial int SyncDescriptor(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);
}

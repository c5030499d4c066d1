using System.Buffers.Binary;
using Moe.Training.Checkpoints;

namespace Moe.Training.Hosting;

/// <summary>A file that a user names as a command's output.</summary>
public static class OutputFile
{
    /// <summary>Writes all of it, or, on a disk that is full, nothing: then what was there before stays.</summary>
    /// <param name="path">A file, new or old; a link stays a link, and what it leads to is replaced; a device or a pipe is written to.</param>
    /// <param name="bytes">What is to stand there.</param>
    /// <exception cref="IOException">It cannot be written.</exception>
    /// <exception cref="UnauthorizedAccessException">The same.</exception>
    public static void Write(string path, byte[] bytes)
    {
        // A file that is made beside it and renamed would take the place of /dev/stdout, or of the pipe that a shell names so.
        if (IsInPlaceOnly(path))
        {
            File.WriteAllBytes(path, bytes);
            return;
        }

        Durable.WriteAllBytes(new FileInfo(path).LinkTarget is null ? path : File.ResolveLinkTarget(path, returnFinalTarget: true)!.FullName, bytes);
    }

    // .NET knows links and folders, but gives devices, pipes and sockets the attributes of files.
    private static bool IsInPlaceOnly(string path)
    {
        const int WorkingFolder = -100; // AT_FDCWD
        const uint Type = 1; // STATX_TYPE
        const int ModeOffset = 28, TypeMask = 0xF000, RegularFile = 0x8000, Folder = 0x4000;
        var status = new byte[256];
        return Posix.Status(WorkingFolder, path, 0, Type, status) == 0
            && (BinaryPrimitives.ReadUInt16LittleEndian(status.AsSpan(ModeOffset)) & TypeMask) is not (RegularFile or Folder);
    }
}

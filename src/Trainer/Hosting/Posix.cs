using System.Runtime.InteropServices;

namespace Moe.Training.Hosting;

/// <summary>The calls of the C library that .NET has no name for.</summary>
internal static partial class Posix
{
    /// <summary>Leaves without finalizers, exit handlers or MPI's own clean-up, any of which may wait for a peer that is gone.</summary>
    [LibraryImport("libc", EntryPoint = "_exit")]
    public static partial void ExitNow(int code);

    /// <summary>Sets what a signal does.</summary>
    /// <param name="signal">Its number.</param>
    /// <param name="action">1 to ignore it (SIG_IGN).</param>
    /// <returns>What it did before.</returns>
    [LibraryImport("libc", EntryPoint = "signal")]
    public static partial nint SetAction(int signal, nint action);

    /// <summary>Makes <paramref name="target"/> another name of the open file <paramref name="source"/>.</summary>
    /// <returns><paramref name="target"/>, or -1 with errno set.</returns>
    [LibraryImport("libc", EntryPoint = "dup2", SetLastError = true)]
    public static partial int Duplicate(int source, int target);

    /// <summary>What a path, links followed, leads to: statx.</summary>
    /// <param name="folder">What a relative path is relative to.</param>
    /// <param name="path">Of anything.</param>
    /// <param name="flags">0 to follow links.</param>
    /// <param name="mask">Fields that are wanted.</param>
    /// <param name="status">256 bytes for the answer.</param>
    /// <returns>0, or -1 where there is nothing.</returns>
    [LibraryImport("libc", EntryPoint = "statx", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Status(int folder, string path, int flags, uint mask, [Out] byte[] status);
}

using System.ComponentModel;
using System.Runtime.InteropServices;

namespace Moe.Training.Hosting;

/// <summary>Sends all that this process prints to one file.</summary>
public static class RankLog
{
    /// <summary>
    /// Points file descriptors 1 and 2 at <paramref name="path"/>, so that native code, the runtime's crash report and <see cref="Console"/> all
    /// end up there, in order and unbuffered. The file is appended to: a resumed run keeps the output of the run before.
    /// </summary>
    /// <param name="path">The log file, whose folder is made where it is missing.</param>
    /// <exception cref="IOException">The file cannot be opened for writing.</exception>
    public static void Redirect(string path)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);

        // Opened by FileStream for its O_APPEND: the two descriptors then never overwrite each other's lines.
        using var file = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite);
        var descriptor = (int)file.SafeFileHandle.DangerousGetHandle();
        foreach (var standard in (ReadOnlySpan<int>)[1, 2])
        {
            if (Posix.Duplicate(descriptor, standard) < 0)
            {
                throw new IOException($"Output cannot be sent to '{path}'.", new Win32Exception(Marshal.GetLastPInvokeError()));
            }
        }

        // A full disk costs lines of the log, not the run.
        Console.SetOut(new StreamWriter(new DescriptorStream(1, isKept: true)) { AutoFlush = true });
        Console.SetError(new StreamWriter(new DescriptorStream(2, isKept: true)) { AutoFlush = true });
    }
}

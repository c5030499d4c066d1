using System.Diagnostics;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>A small file system in memory, for tests that fill it; where none can be mounted the test says so and is left out.</summary>
internal sealed class SmallDisk : IDisposable
{
    private SmallDisk(string folder) => Folder = folder;

    public string Folder { get; }

    /// <summary>Mounts one at the folder <c>disk</c> in <paramref name="parent"/>.</summary>
    public static SmallDisk Mount(string parent, string size, bool readOnly = false)
    {
        var folder = Directory.CreateDirectory(Path.Combine(parent, "disk")).FullName;
        if (!Environment.IsPrivilegedProcess || Run("mount", "-t", "tmpfs", "-o", $"size={size}{(readOnly ? ",ro" : "")}", "moe-test", folder) != 0)
        {
            Directory.Delete(folder);
            Assert.Ignore("a small tmpfs cannot be mounted here (that takes root and CAP_SYS_ADMIN): a full or read-only disk is not tested");
        }

        return new SmallDisk(folder);
    }

    /// <summary>Leaves no byte free.</summary>
    public void Fill()
    {
        try
        {
            using var file = new FileStream(Path.Combine(Folder, "full"), FileMode.Create);
            var block = new byte[4096];
            while (true)
            {
                file.Write(block);
                file.Flush();
            }
        }
        catch (IOException)
        {
            // That is what was wanted.
        }
    }

    /// <summary>Gives the bytes of <see cref="Fill"/> back.</summary>
    public void Free() => File.Delete(Path.Combine(Folder, "full"));

    public void Dispose() => Run("umount", "-l", Folder);

    private static int Run(string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        process.StandardError.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode;
    }
}

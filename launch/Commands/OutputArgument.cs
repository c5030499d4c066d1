using System.Text;
using Moe.Training.Hosting;

namespace Moe.Launch.Commands;

/// <summary>The file that a command line names as the command's output.</summary>
internal static class OutputArgument
{
    /// <summary>Writes it whole, or leaves what was there.</summary>
    /// <param name="path">As the command line has it.</param>
    /// <param name="text">What is to stand there.</param>
    /// <param name="host">What the path is relative to.</param>
    /// <returns>The file's full path.</returns>
    /// <exception cref="LaunchException">It cannot be written.</exception>
    public static string Write(string path, string text, LaunchHost host)
    {
        var full = Path.GetFullPath(path, host.WorkingDirectory);
        try
        {
            OutputFile.Write(full, Encoding.UTF8.GetBytes(text));
            return full;
        }
        catch (Exception e) when (DiskFault.IsOne(e))
        {
            throw new LaunchException(ExitCodes.Preflight, $"{path} cannot be written: {e.Message}", "free space there (df -h), or a file in a folder that is there and can be written");
        }
    }
}

namespace Moe.Training.Reports;

/// <summary>Opens a file of a run folder.</summary>
/// <param name="path">The file.</param>
/// <returns>The file from its beginning, open beside whoever writes it; null where there is none, or where it must not be read.</returns>
public delegate Stream? OpenRunFile(string path);

/// <summary>Reads a run folder as any program may.</summary>
public static class RunFiles
{
    /// <inheritdoc cref="OpenRunFile"/>
    /// <exception cref="UnauthorizedAccessException">The file may not be read.</exception>
    public static Stream? Open(string path)
    {
        try
        {
            return new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }
}

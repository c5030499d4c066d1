namespace Moe.Launch.Runs;

/// <summary>Finds the project's folder, where configs/ and runs/ are.</summary>
internal static class Repository
{
    private const string Mark = "Trainer.sln";

    /// <summary>The nearest folder with the solution file at or above <paramref name="workingDirectory"/>, else above the launcher's own; null where neither is.</summary>
    public static string? Find(string workingDirectory) => Above(workingDirectory) ?? Above(AppContext.BaseDirectory);

    /// <summary>Where run folders go by default: the project that one works in, else the working directory.</summary>
    public static string RunsFolder(string workingDirectory) => Path.Combine(Above(workingDirectory) ?? workingDirectory, "runs");

    private static string? Above(string start)
    {
        for (var folder = new DirectoryInfo(start); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, Mark)))
            {
                return folder.FullName;
            }
        }

        return null;
    }
}

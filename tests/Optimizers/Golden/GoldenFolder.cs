using Moe.Launch.Runs;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>Where the golden files stand.</summary>
public static class GoldenFolder
{
    public const string Variable = "MOE_GOLDENS";

    /// <summary>The folder that the environment names, or else the project's own copy.</summary>
    public static string Path => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named
        ? Find(named, Environment.GetEnvironmentVariable("PWD"))
        : Own;

    /// <summary>Names of all files within, relative to it, in order; none where there is no such folder.</summary>
    public static IReadOnlyList<string> Names => !Directory.Exists(Path) ? [] :
    [
        .. Directory.EnumerateFiles(Path, "*.json", SearchOption.AllDirectories)
            .Select(file => System.IO.Path.GetRelativePath(Path, file)).Order(StringComparer.Ordinal),
    ];

    /// <summary>Reads a file of the project's own copy.</summary>
    public static GoldenFile ReadOwn(string name) => GoldenFile.Parse(name, File.ReadAllText(System.IO.Path.Combine(Own, name)));

    /// <param name="name">One of <see cref="Names"/>.</param>
    public static GoldenFile Read(string name) => GoldenFile.Parse(name, File.ReadAllText(System.IO.Path.Combine(Path, name)));

    /// <summary>
    /// A folder as its caller meant it. The runner starts tests in their own folder, so a relative path is looked for where the shell that
    /// typed it stood, and from the sources' root.
    /// </summary>
    /// <param name="named">Absolute or relative.</param>
    /// <param name="shell">Working folder of that shell; null where it isn't known.</param>
    public static string Find(string named, string? shell)
    {
        string[] places = [.. new[] { shell, Repository.Find(AppContext.BaseDirectory) }.OfType<string>().Select(start => System.IO.Path.GetFullPath(named, start))];
        return places.FirstOrDefault(Directory.Exists) ?? places[0];
    }

    private static string Own => System.IO.Path.Combine(AppContext.BaseDirectory, "Optimizers", "Golden", "files");
}

namespace Moe.Tests.Optimizers.Golden;

/// <summary>Where the golden files stand.</summary>
public static class GoldenFolder
{
    public const string Variable = "MOE_GOLDENS";

    /// <summary>The folder that the environment names, or else the project's own copy.</summary>
    public static string Path => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named
        ? System.IO.Path.GetFullPath(named)
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

    private static string Own => System.IO.Path.Combine(AppContext.BaseDirectory, "Optimizers", "Golden", "files");
}

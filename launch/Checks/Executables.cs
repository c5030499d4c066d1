namespace Moe.Launch.Checks;

/// <summary>Looks programs up as the shell does.</summary>
internal static class Executables
{
    /// <summary>Path of a program on PATH; null where there is none.</summary>
    public static string? Find(string name, Func<string, string?> variable) =>
        (variable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries).Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);
}

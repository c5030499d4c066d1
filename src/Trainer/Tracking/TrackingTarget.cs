namespace Moe.Training.Tracking;

/// <summary>Where runs are told to: an MLflow server, or a folder in MLflow's file layout.</summary>
/// <param name="Uri">As it may be shown and stored: without user name, password and a slash at its end.</param>
/// <param name="Folder">Full path of the file store; null for a server.</param>
public sealed record TrackingTarget(string Uri, string? Folder)
{
    /// <summary>Says that nothing is to be tracked.</summary>
    public const string None = "none";

    private const string FileScheme = "file:";

    /// <summary>The target that a URI names.</summary>
    /// <param name="text">Free of the faults that <see cref="Fault"/> knows; a relative folder is relative to the working directory.</param>
    /// <returns>Null for <see cref="None"/>.</returns>
    public static TrackingTarget? Parse(string text)
    {
        if (text == None)
        {
            return null;
        }

        if (FolderOf(text) is { } folder)
        {
            var full = Path.GetFullPath(folder);
            return new TrackingTarget(FileUri(full), full);
        }

        return new TrackingTarget(text.TrimEnd('/'), null);
    }

    /// <summary>What is wrong with a URI, as a phrase to follow its name; null where nothing is. Never repeats a password.</summary>
    public static string? Fault(string text)
    {
        if (text == None || FolderOf(text) is { Length: > 0 })
        {
            return null;
        }

        if (!System.Uri.TryCreate(text, UriKind.Absolute, out var uri))
        {
            return "is no URI";
        }

        return uri switch
        {
            { Scheme: not ("http" or "https") } => $"has the scheme {uri.Scheme}:, which takes MLflow's own program",
            { UserInfo.Length: > 0 } => "holds a user name or password, which would be stored with the run; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
            { Query.Length: > 0 } or { Fragment.Length: > 0 } => "has more behind the path of the server",
            { Host.Length: 0 } => "names no host",
            _ => null,
        };
    }

    /// <summary>A URI whose folder, where it names one, no longer depends on the working directory.</summary>
    /// <param name="text">The URI, right or wrong.</param>
    /// <param name="folder">What a relative folder is relative to.</param>
    internal static string Anchor(string text, string folder) =>
        text != None && FolderOf(text) is { Length: > 0 } path ? FileUri(Path.GetFullPath(Path.Combine(folder, path))) : text;

    /// <summary>The path of <c>file:PATH</c>, <c>file:///PATH</c>, or of what can only be a path; null for another URI.</summary>
    internal static string? FolderOf(string text)
    {
        if (!text.StartsWith(FileScheme, StringComparison.Ordinal))
        {
            return text.StartsWith('/') || text.StartsWith('.') ? text : null;
        }

        var path = text[FileScheme.Length..];
        foreach (var host in (ReadOnlySpan<string>)["//localhost/", "///"])
        {
            if (path.StartsWith(host, StringComparison.Ordinal))
            {
                path = "/" + path[host.Length..];
            }
        }

        return System.Uri.UnescapeDataString(path);
    }

    /// <summary><c>file:///</c> and the path, as MLflow writes it into its own files.</summary>
    internal static string FileUri(string fullPath) => "file://" + string.Join('/', fullPath.Split('/').Select(System.Uri.EscapeDataString));
}

namespace Moe.Training.Tracking;

/// <summary>The commit that a program was built from or is run in, read from git's own files: no process is started for it.</summary>
/// <param name="Commit">Its hash; null where the branch has no commit yet.</param>
/// <param name="Branch">Null where none is checked out.</param>
/// <param name="Remote">URL of <c>origin</c> without user name and password; null where there is none.</param>
internal sealed record GitState(string? Commit, string? Branch, string? Remote)
{
    private const string HeadsPrefix = "refs/heads/";

    /// <summary>The state of the first of the folders that lies in a repository; null where none does.</summary>
    public static GitState? Find(params ReadOnlySpan<string> folders)
    {
        foreach (var start in folders)
        {
            for (var folder = new DirectoryInfo(start); folder is not null; folder = folder.Parent)
            {
                try
                {
                    if (Read(Path.Combine(folder.FullName, ".git")) is { } state)
                    {
                        return state;
                    }
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    return null; // another user's repository
                }
            }
        }

        return null;
    }

    private static GitState? Read(string path)
    {
        // In a further work tree, .git is a file that names the folder.
        var folder = File.Exists(path) && File.ReadAllText(path).Trim() is var text && text.StartsWith("gitdir: ", StringComparison.Ordinal)
            ? Path.GetFullPath(Path.Combine(Path.GetDirectoryName(path)!, text["gitdir: ".Length..]))
            : path;
        var head = Path.Combine(folder, "HEAD");
        if (!File.Exists(head))
        {
            return null;
        }

        var common = Path.Combine(folder, "commondir");
        common = File.Exists(common) ? Path.GetFullPath(Path.Combine(folder, File.ReadAllText(common).Trim())) : folder;
        var content = File.ReadAllText(head).Trim();
        if (!content.StartsWith("ref: ", StringComparison.Ordinal))
        {
            return new GitState(content, null, RemoteOf(common));
        }

        var reference = content["ref: ".Length..];
        var branch = reference.StartsWith(HeadsPrefix, StringComparison.Ordinal) ? reference[HeadsPrefix.Length..] : reference;
        return new GitState(CommitOf(common, reference), branch, RemoteOf(common));
    }

    private static string? CommitOf(string common, string reference)
    {
        var loose = Path.Combine(common, reference);
        if (File.Exists(loose))
        {
            return File.ReadAllText(loose).Trim();
        }

        var packed = Path.Combine(common, "packed-refs");
        return File.Exists(packed)
            ? File.ReadLines(packed).Where(line => line.EndsWith(" " + reference, StringComparison.Ordinal)).Select(line => line.Split(' ')[0]).FirstOrDefault()
            : null;
    }

    private static string? RemoteOf(string common)
    {
        var config = Path.Combine(common, "config");
        var lines = File.Exists(config) ? File.ReadAllLines(config) : [];
        var url = lines.Select(line => line.Trim())
            .SkipWhile(line => line != "[remote \"origin\"]").Skip(1)
            .TakeWhile(line => !line.StartsWith('['))
            .Where(line => line.StartsWith("url", StringComparison.Ordinal) && line.Contains('=', StringComparison.Ordinal))
            .Select(line => line[(line.IndexOf('=', StringComparison.Ordinal) + 1)..].Trim())
            .FirstOrDefault();
        return url is not null && Uri.TryCreate(url, UriKind.Absolute, out var uri) && uri.UserInfo.Length > 0 && uri.Scheme is "http" or "https"
            ? new UriBuilder(uri) { UserName = "", Password = "" }.Uri.AbsoluteUri
            : url;
    }
}

using Moe.Data;
using Moe.Training.Configuration;

namespace Moe.Training;

/// <summary>The token folders behind the configuration's domains: a text is prepared once, into a folder beside it, and again when it changes.</summary>
public static class DomainTokens
{
    /// <summary>Where the tokens of a domain stand.</summary>
    /// <param name="path">A prepared folder, a text file, or a folder of texts.</param>
    /// <returns><paramref name="path"/> itself if it is prepared, else the folder of that name with <c>.tokens</c> added.</returns>
    public static string FolderOf(string path) =>
        TokenFolder.Exists(path) ? path : TokenFolder.DefaultLocation(path);

    /// <summary>Prepares what is missing or stale. One process of a run does this, before any rank opens the folders.</summary>
    /// <param name="data">The configuration's section.</param>
    /// <param name="prepared">Told of each domain that had to be prepared, and why.</param>
    /// <param name="progress">Told of each domain's progress.</param>
    /// <exception cref="DataException">A text is missing, unreadable or empty.</exception>
    public static void Prepare(DataConfig data, Action<string>? prepared = null, IProgress<PrepareProgress>? progress = null)
    {
        foreach (var domain in data.Domains)
        {
            if (!TokenFolder.Exists(domain.Path) && TokenFolder.PrepareIfStale([domain.Path], FolderOf(domain.Path), progress) is { } reason)
            {
                prepared?.Invoke($"domain '{domain.Name}': token folder prepared ({reason})");
            }
        }
    }

    /// <summary>Opens the prepared folders.</summary>
    /// <exception cref="DataException">One is missing or damaged.</exception>
    public static IReadOnlyList<Domain> Open(DataConfig data) =>
        [.. data.Domains.Select(domain => new Domain(domain.Name, TokenFolder.Open(FolderOf(domain.Path)), domain.Weight))];
}

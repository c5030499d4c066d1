using System.Security.Cryptography;

namespace Moe.Data;

/// <summary>A text file to prepare: one document.</summary>
/// <param name="Name">See <see cref="TokenDocument.Name"/>.</param>
/// <param name="Path">Where to open it.</param>
/// <param name="Bytes">Its length when listed.</param>
/// <param name="Modified">Its last write, UTC, when listed.</param>
internal sealed record SourceFile(string Name, string Path, long Bytes, DateTime Modified)
{
    private const string Listing = "cannot prepare texts from";

    /// <summary>All files of the sources, in the order of the sources; those of a folder recursively, in ordinal order of their names.</summary>
    /// <exception cref="DataException">A source is missing, unreadable, without files, named twice, or holds empty files.</exception>
    public static List<SourceFile> List(IReadOnlyList<string> sources)
    {
        var files = new List<SourceFile>();
        foreach (var source in sources)
        {
            try
            {
                files.AddRange(List(source));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new DataException(Listing, source, e.Message, "check that it exists and may be read", e);
            }
        }

        var where = string.Join(", ", sources);
        if (files.Count == 0)
        {
            throw new DataException(Listing, where, "there is no file in it", "name text files, or folders that hold some");
        }

        if (files.CountBy(file => file.Name, StringComparer.Ordinal).FirstOrDefault(name => name.Value > 1).Key is { } twice)
        {
            throw new DataException(Listing, where, $"'{twice}' is named twice", "name each file once, and rename folders of equal name");
        }

        RefuseEmpty(files, where);
        return files;
    }

    /// <exception cref="DataException">The file is gone or may not be read.</exception>
    public FileStream Open() => Reading(() => new FileStream(Path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0));

    /// <returns>Number of bytes read; 0 at the end of <paramref name="text"/>.</returns>
    /// <exception cref="DataException">The disk failed.</exception>
    public int Read(FileStream text, byte[] buffer) => Reading(() => text.Read(buffer));

    /// <summary>Lower-case hexadecimal, of the file as it is now.</summary>
    /// <exception cref="DataException">The file cannot be read.</exception>
    public string Sha256() => Reading(() =>
    {
        using var text = File.OpenRead(Path);
        return Convert.ToHexStringLower(SHA256.HashData(text));
    });

    /// <returns>How these files differ from those a folder was prepared from, or null where they do not.</returns>
    /// <remarks>A file of the same length and time is taken as unchanged; one with another time alone is compared by checksum.</remarks>
    public static string? Difference(IReadOnlyList<SourceFile> files, IReadOnlyList<TokenDocument> documents)
    {
        if (files.Count != documents.Count)
        {
            return $"there are {files.Count} texts, it was prepared from {documents.Count}";
        }

        foreach (var (file, document) in files.Zip(documents))
        {
            if (file.Name != document.Name)
            {
                return $"text '{file.Name}' stands where '{document.Name}' stood";
            }

            if (file.Bytes != document.Bytes || (file.Modified != document.Modified && file.Sha256() != document.Sha256))
            {
                return $"text '{file.Name}' has changed";
            }
        }

        return null;
    }

    private T Reading<T>(Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DataException("cannot read text", Path, e.Message, "check that it exists and may be read", e);
        }
    }

    private static List<SourceFile> List(string source)
    {
        var path = System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(source));
        var name = System.IO.Path.GetFileName(path);
        if (!Directory.Exists(path))
        {
            return [Describe(name, new FileInfo(path))];
        }

        var files = new List<SourceFile>();
        Walk(new DirectoryInfo(path), name, files);
        files.Sort((a, b) => string.CompareOrdinal(a.Name, b.Name));
        return files;
    }

    // Hidden entries (.git, editors' files) and token folders are no texts.
    private static void Walk(DirectoryInfo folder, string name, List<SourceFile> files)
    {
        foreach (var entry in folder.EnumerateFileSystemInfos().Where(entry => !entry.Name.StartsWith('.')))
        {
            var entryName = $"{name}/{entry.Name}";
            if (entry is not DirectoryInfo child)
            {
                files.Add(Describe(entryName, (FileInfo)entry));
            }
            else if (child.LinkTarget is { } target)
            {
                throw new DataException(Listing, child.FullName, $"it links to folder '{target}'", "name that folder as a source of its own");
            }
            else if (!TokenFolder.Exists(child.FullName) && !TokenFolderWriter.IsUnfinished(child.Name))
            {
                Walk(child, entryName, files);
            }
        }
    }

    private static SourceFile Describe(string name, FileInfo link)
    {
        var file = link.LinkTarget is null ? link : (FileInfo)(link.ResolveLinkTarget(returnFinalTarget: true) ?? link);
        return file.Exists
            ? new SourceFile(name, file.FullName, file.Length, file.LastWriteTimeUtc)
            : throw new DataException(Listing, link.FullName, "it does not exist", "check the path");
    }

    private static void RefuseEmpty(List<SourceFile> files, string where)
    {
        const int shown = 5;
        var empty = files.Where(file => file.Bytes == 0).Select(file => $"'{file.Name}'").ToList();
        if (empty.Count > 0)
        {
            var names = string.Join(", ", empty.Take(shown)) + (empty.Count > shown ? ", ..." : "");
            throw new DataException(Listing, where, $"{empty.Count} of {files.Count} files are empty: {names}", "remove or fill them");
        }
    }
}

using System.Security.Cryptography;
using System.Text.Json;

namespace Moe.Data;

/// <summary>
/// The tokens of one domain on disk, memory-mapped: opening costs the same whatever the size, and pages are read as they are used.
/// </summary>
/// <remarks>
/// <para>
/// <see cref="Prepare"/> makes a folder from texts, <see cref="PrepareIfStale"/> only where it is due, <see cref="Inspect"/> verifies and
/// describes one, <see cref="Open"/> reads one. <see cref="TrainingSampler"/> and <see cref="EvaluationWindows"/> cut it into sequences.
/// </para>
/// <para>
/// The files are described in docs/data.md. A folder is put in place whole: a reader meets none or a complete one. Any number of threads
/// may read one instance, and a reader keeps its tokens while the folder is replaced.
/// </para>
/// </remarks>
public sealed class TokenFolder : IDisposable
{
    internal const string PrepareAgain = "prepare it again from the texts: launch data prepare";
    private const string Opening = "cannot open token folder";
    private const int ChunkBytes = 1 << 20;

    private readonly TokenHeader _header;
    private readonly MappedTokens _tokens;

    private TokenFolder(string location, TokenHeader header, IReadOnlyList<TokenDocument> documents)
    {
        Location = location;
        Documents = documents;
        _header = header;
        _tokens = new MappedTokens(Path.Combine(location, TokenHeader.TokensFileName), header.Tokens, header.TokenBytes);
    }

    /// <summary>Path of the folder, as given to <see cref="Open"/>.</summary>
    public string Location { get; }

    /// <summary>The texts, in the order of their tokens, without gaps.</summary>
    public IReadOnlyList<TokenDocument> Documents { get; }

    /// <summary>Number of tokens, at least 1.</summary>
    public long Count => _header.Tokens;

    /// <summary>Name of the tokenizer, such as <see cref="ByteTokenizer.Name"/>.</summary>
    public string Tokenizer => _header.Tokenizer;

    /// <summary>Token ids are below it.</summary>
    public int Vocabulary => _header.Vocabulary;

    /// <summary>Element type of the token file: "uint8" or "uint16".</summary>
    public string Dtype => _header.Dtype;

    /// <summary>Of the tokens as prepared, lower-case hexadecimal; <see cref="Verify"/> compares with it.</summary>
    public string Sha256 => _header.TokensSha256;

    /// <summary>Whether <paramref name="folder"/> is a token folder, sound or not, rather than a folder of texts.</summary>
    public static bool Exists(string folder) => File.Exists(Path.Combine(folder, TokenHeader.FileName));

    /// <summary>Where the tokens of a text or folder of texts are kept unless told otherwise: beside it, "kjv.txt.tokens".</summary>
    public static string DefaultLocation(string source) => Path.TrimEndingDirectorySeparator(source) + ".tokens";

    /// <summary>Turns texts into a token folder, byte by byte; an older one at that place is replaced when all is written.</summary>
    /// <param name="sources">Files and folders; a folder's files are taken recursively in ordinal order of their paths, a file is a document.</param>
    /// <param name="folder">Target: absent, empty, or a token folder.</param>
    /// <param name="progress">Told after each MiB or document.</param>
    /// <exception cref="DataException">
    /// A source is missing, unreadable or empty; or the target cannot be written, holds other files, or is being prepared by another process.
    /// The target is then as it was.
    /// </exception>
    public static void Prepare(IReadOnlyList<string> sources, string folder, IProgress<PrepareProgress>? progress = null) =>
        Write(SourceFile.List(sources), folder, progress);

    /// <summary>Prepares <paramref name="folder"/> where it is missing, damaged, or older than its texts.</summary>
    /// <returns>Why it was prepared, or null where it was up to date.</returns>
    /// <inheritdoc cref="Prepare"/>
    public static string? PrepareIfStale(IReadOnlyList<string> sources, string folder, IProgress<PrepareProgress>? progress = null)
    {
        var files = SourceFile.List(sources);
        var reason = Staleness(files, folder);
        if (reason is not null)
        {
            Write(files, folder, progress);
        }

        return reason;
    }

    /// <summary>Opens a folder, verifies every byte of it, and describes it.</summary>
    /// <exception cref="DataException">It is missing or damaged; the message names the file.</exception>
    public static TokenFolderReport Inspect(string folder)
    {
        using var tokens = Open(folder);
        tokens.Verify();
        return TokenFolderReport.Of(tokens);
    }

    /// <summary>Opens a prepared folder; header, document index and sizes are verified, the tokens themselves are not read.</summary>
    /// <exception cref="DataException">Missing, unreadable, of another format version, or damaged; the message names the file.</exception>
    public static TokenFolder Open(string folder)
    {
        if (!Exists(folder))
        {
            var why = Directory.Exists(folder) ? $"it holds no {TokenHeader.FileName}" : "it does not exist";
            throw new DataException(Opening, folder, why, "make it from texts: launch data prepare");
        }

        try
        {
            var headerPath = Path.Combine(folder, TokenHeader.FileName);
            var header = TokenHeader.Parse(File.ReadAllBytes(headerPath), headerPath);
            var documents = ReadDocuments(Path.Combine(folder, TokenHeader.DocumentsFileName), header);
            RequireLength(Path.Combine(folder, TokenHeader.TokensFileName), header);
            return new TokenFolder(folder, header, documents);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DataException(Opening, folder, e.Message, "check the folder's files and permissions, or " + PrepareAgain, e);
        }
    }

    /// <summary>Copies tokens out of the file.</summary>
    /// <param name="start">Position of the first, 0 to <see cref="Count"/> - n.</param>
    /// <param name="tokens">Receives n ids.</param>
    /// <exception cref="ArgumentOutOfRangeException">The range is not within the folder.</exception>
    public void Read(long start, Span<long> tokens) => _tokens.Read(start, tokens);

    /// <summary>Reads all tokens and compares their checksum with the header's.</summary>
    /// <exception cref="DataException">They differ, or cannot be read.</exception>
    public void Verify()
    {
        var path = Path.Combine(Location, TokenHeader.TokensFileName);
        string found;
        try
        {
            using var file = File.OpenRead(path);
            found = Convert.ToHexStringLower(SHA256.HashData(file));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new DataException("cannot verify tokens", path, e.Message, "check the disk, or " + PrepareAgain, e);
        }

        if (found != Sha256)
        {
            throw new DataException("damaged tokens", path, $"its sha256 is {found}, the header states {Sha256}", PrepareAgain);
        }
    }

    /// <summary>Refuses tokens of another tokenizer than the caller's.</summary>
    /// <exception cref="DataException">Name or vocabulary differ.</exception>
    public void RequireTokenizer(string tokenizer, int vocabulary)
    {
        if (Tokenizer != tokenizer || Vocabulary != vocabulary)
        {
            var why = $"its tokenizer is '{Tokenizer}' with {Vocabulary} tokens, '{tokenizer}' with {vocabulary} is wanted";
            throw new DataException("cannot use token folder", Location, why, PrepareAgain);
        }
    }

    /// <summary>Unmaps the file; not while another thread reads.</summary>
    public void Dispose() => _tokens.Dispose();

    private static void Write(List<SourceFile> files, string folder, IProgress<PrepareProgress>? progress)
    {
        using var writer = new TokenFolderWriter(folder, ByteTokenizer.Name, ByteTokenizer.Vocabulary);
        var total = files.Sum(file => file.Bytes);
        var done = 0L;
        var bytes = new byte[ChunkBytes];
        var tokens = new ushort[ChunkBytes];
        foreach (var file in files)
        {
            using var text = file.Open();
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            for (int read; text.Position <= file.Bytes && (read = file.Read(text, bytes)) > 0;) // a text that grows for ever ends here
            {
                hash.AppendData(bytes, 0, read);
                ByteTokenizer.Encode(bytes.AsSpan(0, read), tokens);
                writer.Append(tokens.AsSpan(0, read));
                done += read;
                progress?.Report(new PrepareProgress(file.Name, done, total));
            }

            if (text.Position != file.Bytes)
            {
                var why = $"it had {file.Bytes:N0} bytes when listed and {text.Position:N0} when read";
                throw new DataException("cannot read text", file.Path, why, "prepare again when nothing writes to it");
            }

            writer.EndDocument(file, Convert.ToHexStringLower(hash.GetHashAndReset()));
        }

        writer.Commit();
    }

    private static string? Staleness(List<SourceFile> files, string folder)
    {
        if (!Exists(folder))
        {
            return "it does not exist";
        }

        TokenFolder present;
        try
        {
            present = Open(folder);
        }
        catch (DataException damage)
        {
            return damage.Why; // the texts are at hand, so preparing again mends it
        }

        using (present)
        {
            return present.Tokenizer == ByteTokenizer.Name ? SourceFile.Difference(files, present.Documents) : "it has another tokenizer";
        }
    }

    private static void RequireLength(string path, TokenHeader header)
    {
        var found = new FileInfo(path).Length;
        var expected = header.Tokens * header.TokenBytes;
        if (found != expected)
        {
            var why = $"it has {found:N0} bytes, {header.Tokens:N0} tokens of {header.Dtype} are {expected:N0}";
            throw new DataException("damaged tokens", path, why, PrepareAgain);
        }
    }

    private static List<TokenDocument> ReadDocuments(string path, TokenHeader header)
    {
        var bytes = File.ReadAllBytes(path);
        var checksum = Convert.ToHexStringLower(SHA256.HashData(bytes));
        if (checksum != header.DocumentsSha256)
        {
            var why = $"its sha256 is {checksum}, the header states {header.DocumentsSha256}";
            throw new DataException("damaged document index", path, why, PrepareAgain);
        }

        var documents = new List<TokenDocument>();
        foreach (var line in bytes.AsSpan().TrimEnd((byte)'\n').Split((byte)'\n'))
        {
            documents.Add(JsonSerializer.Deserialize<TokenDocument>(bytes.AsSpan(line), TokenHeader.Json)!);
        }

        return documents;
    }
}

using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text.Json;

namespace Moe.Data;

/// <summary>Writes a token folder aside and puts it in place whole; disposed before <see cref="Commit"/>, it leaves nothing.</summary>
/// <remarks>
/// What a killed process leaves is "name.unfinished", which no reader opens and the next writer overwrites. Between the two renames
/// that replace an older folder there is none for a moment; a kill right there leaves the old one as "name.replaced", also removed next time.
/// </remarks>
internal sealed class TokenFolderWriter : IDisposable
{
    private const string Writing = "cannot write token folder";
    private const string UnfinishedSuffix = ".unfinished";
    private const string ReplacedSuffix = ".replaced";

    private readonly string _folder;
    private readonly string _tokenizer;
    private readonly int _vocabulary;
    private readonly FileStream _tokens;
    private readonly FileStream _documents;
    private readonly IncrementalHash _tokensHash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private readonly IncrementalHash _documentsHash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private byte[] _buffer = [];
    private long _count;
    private long _documentStart;
    private long _documentCount;
    private bool _isCommitted;

    /// <param name="folder">Target; absent, empty, or a token folder, which is replaced.</param>
    /// <param name="tokenizer">Recorded in the header.</param>
    /// <param name="vocabulary">1 to 65,536.</param>
    /// <exception cref="DataException">The target is something else, cannot be written, or another process is preparing it.</exception>
    public TokenFolderWriter(string folder, string tokenizer, int vocabulary)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(vocabulary, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(vocabulary, ushort.MaxValue + 1);
        _folder = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        _tokenizer = tokenizer;
        _vocabulary = vocabulary;
        RefuseOtherContent(_folder);
        (_tokens, _documents) = Guard(() =>
        {
            Directory.CreateDirectory(Unfinished);
            return (Create(TokenHeader.TokensFileName), Create(TokenHeader.DocumentsFileName));
        });
    }

    private string Unfinished => _folder + UnfinishedSuffix;

    /// <summary>Whether a folder of this name is one that a writer has not completed or not yet removed.</summary>
    public static bool IsUnfinished(string name) =>
        name.EndsWith(UnfinishedSuffix, StringComparison.Ordinal) || name.EndsWith(ReplacedSuffix, StringComparison.Ordinal);

    /// <summary>Appends tokens to the document that is being written.</summary>
    /// <param name="tokens">Ids below the vocabulary.</param>
    public void Append(ReadOnlySpan<ushort> tokens)
    {
        var width = _vocabulary <= 256 ? 1 : 2;
        if (_buffer.Length < tokens.Length * width)
        {
            _buffer = new byte[tokens.Length * width];
        }

        for (var i = 0; i < tokens.Length; i++)
        {
            if (width == 1)
            {
                _buffer[i] = (byte)tokens[i];
            }
            else
            {
                BinaryPrimitives.WriteUInt16LittleEndian(_buffer.AsSpan(2 * i), tokens[i]);
            }
        }

        var bytes = _buffer.AsMemory(0, tokens.Length * width);
        _tokensHash.AppendData(bytes.Span);
        Guard(() => _tokens.Write(bytes.Span));
        _count += tokens.Length;
    }

    /// <summary>Ends the document that the tokens since the last call belong to.</summary>
    /// <param name="file">The text it was made from.</param>
    /// <param name="sha256">Of the bytes read from it.</param>
    public void EndDocument(SourceFile file, string sha256)
    {
        var document = new TokenDocument(file.Name, _documentStart, _count - _documentStart, file.Bytes, file.Modified, sha256);
        byte[] line = [.. JsonSerializer.SerializeToUtf8Bytes(document, TokenHeader.Json), (byte)'\n'];
        _documentsHash.AppendData(line);
        Guard(() => _documents.Write(line));
        _documentStart = _count;
        _documentCount++;
    }

    /// <summary>Makes the folder appear, all of it on disk, in place of an older one.</summary>
    /// <exception cref="DataException">The disk is full or the folder cannot be replaced; an older one is then kept.</exception>
    public void Commit()
    {
        var header = new TokenHeader(
            TokenHeader.FormatName,
            TokenHeader.CurrentVersion,
            _tokenizer,
            _vocabulary,
            TokenHeader.DtypeOf(_vocabulary),
            _documentCount,
            _count,
            Convert.ToHexStringLower(_tokensHash.GetHashAndReset()),
            Convert.ToHexStringLower(_documentsHash.GetHashAndReset()),
            HeaderSha256: "");
        Guard(() =>
        {
            _tokens.Flush(flushToDisk: true);
            _documents.Flush(flushToDisk: true);
            using (var file = Create(TokenHeader.FileName))
            {
                file.Write(header.ToFile());
                file.Flush(flushToDisk: true);
            }

            var replaced = _folder + ReplacedSuffix;
            Delete(replaced);
            if (Directory.Exists(_folder))
            {
                Directory.Move(_folder, replaced);
            }

            Directory.Move(Unfinished, _folder);
            _isCommitted = true;
            Delete(replaced);
        });
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_isCommitted)
        {
            Delete(Unfinished); // while the streams still lock it: afterwards it could be the next writer's
        }

        _tokens.Dispose();
        _documents.Dispose();
        _tokensHash.Dispose();
        _documentsHash.Dispose();
    }

    // A mistyped target must not cost the user a folder of something else.
    private static void RefuseOtherContent(string folder)
    {
        string[] own = [TokenHeader.FileName, TokenHeader.TokensFileName, TokenHeader.DocumentsFileName];
        if (File.Exists(folder))
        {
            throw new DataException(Writing, folder, "a file of that name exists", "choose another target");
        }

        if (Directory.Exists(folder)
            && Directory.EnumerateFileSystemEntries(folder).FirstOrDefault(path => !own.Contains(Path.GetFileName(path))) is { } other)
        {
            throw new DataException(Writing, folder, $"it holds '{Path.GetFileName(other)}', so it is no token folder", "choose another target");
        }
    }

    private static void Delete(string folder)
    {
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    // Not shared: a second process that prepares the same target fails here; the lock goes with the process that holds it.
    // Not buffered: what a full disk left in a buffer would make Dispose throw.
    private FileStream Create(string name)
    {
        var file = new FileStream(Path.Combine(Unfinished, name), FileMode.OpenOrCreate, FileAccess.Write, FileShare.None, bufferSize: 0);
        file.SetLength(0);
        return file;
    }

    private void Guard(Action write) => Guard(() =>
    {
        write();
        return true;
    });

    private T Guard<T>(Func<T> write)
    {
        try
        {
            return write();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            const string remedy = "check free space and permissions, and that no other process prepares the same folder";
            throw new DataException(Writing, _folder, e.Message, remedy, e);
        }
    }
}

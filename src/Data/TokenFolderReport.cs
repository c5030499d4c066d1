namespace Moe.Data;

/// <summary>What there is to say about a verified token folder.</summary>
/// <param name="Location">Path of the folder.</param>
/// <param name="Tokenizer">Name of the tokenizer.</param>
/// <param name="Vocabulary">Token ids are below it.</param>
/// <param name="Dtype">Element type of the token file.</param>
/// <param name="Documents">Number of texts.</param>
/// <param name="Tokens">Number of tokens.</param>
/// <param name="Bytes">Length of all texts.</param>
/// <param name="Sha256">Of the token file; it has been compared.</param>
/// <param name="Head">The first <see cref="HeadDocuments"/> texts.</param>
/// <param name="Excerpt">The first <see cref="ExcerptLines"/> lines that are not blank, decoded and fit for a terminal.</param>
public sealed record TokenFolderReport(
    string Location,
    string Tokenizer,
    int Vocabulary,
    string Dtype,
    int Documents,
    long Tokens,
    long Bytes,
    string Sha256,
    IReadOnlyList<TokenDocument> Head,
    IReadOnlyList<string> Excerpt)
{
    /// <summary>Most texts in <see cref="Head"/>.</summary>
    public const int HeadDocuments = 10;

    /// <summary>Most lines in <see cref="Excerpt"/>.</summary>
    public const int ExcerptLines = 4;

    private const int ExcerptTokens = 1000;
    private const int ExcerptWidth = 100; // characters

    /// <summary>Bytes of text in one token, on average; 1 for the byte tokenizer.</summary>
    public double BytesPerToken => (double)Bytes / Tokens;

    /// <exception cref="DataException">The tokenizer is unknown, so that the excerpt cannot be decoded.</exception>
    internal static TokenFolderReport Of(TokenFolder folder)
    {
        folder.RequireTokenizer(ByteTokenizer.Name, ByteTokenizer.Vocabulary);
        var first = new long[long.Min(ExcerptTokens, folder.Count)];
        folder.Read(0, first);
        return new TokenFolderReport(
            folder.Location,
            folder.Tokenizer,
            folder.Vocabulary,
            folder.Dtype,
            folder.Documents.Count,
            folder.Count,
            folder.Documents.Sum(document => document.Bytes),
            folder.Sha256,
            [.. folder.Documents.Take(HeadDocuments)],
            Excerpts(ByteTokenizer.Decode(first)));
    }

    private static string[] Excerpts(string text) =>
    [
        .. text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
            .Take(ExcerptLines)
            .Select(line => line.Length > ExcerptWidth ? line[..(ExcerptWidth - 3)] + "..." : line)
            .Select(line => string.Concat(line.Select(c => char.IsControl(c) ? '\uFFFD' : c))), // no escape sequences from a text
    ];
}

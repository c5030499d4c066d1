using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Moe.Data;

/// <summary>header.json of a token folder; with its own checksum, so that no damaged field is believed.</summary>
/// <param name="Format">Always <see cref="FormatName"/>.</param>
/// <param name="Version">Layout of the folder; readers accept <see cref="CurrentVersion"/> alone.</param>
/// <param name="Tokenizer">Name of the tokenizer.</param>
/// <param name="Vocabulary">Ids are below it; at most 65,536.</param>
/// <param name="Dtype">Of tokens.bin, by vocabulary: "uint8" up to 256, else "uint16", little endian.</param>
/// <param name="Documents">Lines of documents.jsonl.</param>
/// <param name="Tokens">Tokens in tokens.bin.</param>
/// <param name="TokensSha256">Of tokens.bin.</param>
/// <param name="DocumentsSha256">Of documents.jsonl.</param>
/// <param name="HeaderSha256">Of this header's JSON with this field empty.</param>
internal sealed record TokenHeader(
    string Format,
    int Version,
    string Tokenizer,
    int Vocabulary,
    string Dtype,
    long Documents,
    long Tokens,
    string TokensSha256,
    string DocumentsSha256,
    string HeaderSha256)
{
    public const string FileName = "header.json";
    public const string TokensFileName = "tokens.bin";
    public const string DocumentsFileName = "documents.jsonl";
    public const string FormatName = "moe-tokens";
    public const int CurrentVersion = 1;

    /// <summary>Names in snake_case; a field missing, unknown or null where it must not be is an error.</summary>
    public static JsonSerializerOptions Json { get; } = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
    };

    private static readonly JsonSerializerOptions IndentedJson = new(Json) { WriteIndented = true };

    /// <summary>Bytes of one token in tokens.bin, 1 or 2.</summary>
    [JsonIgnore]
    public int TokenBytes => Vocabulary <= 256 ? 1 : 2;

    public static string DtypeOf(int vocabulary) => vocabulary <= 256 ? "uint8" : "uint16";

    /// <returns>The file's bytes, with the header's checksum filled in.</returns>
    public byte[] ToFile() => JsonSerializer.SerializeToUtf8Bytes(this with { HeaderSha256 = Checksum() }, IndentedJson);

    /// <exception cref="DataException">Not a header, of another version, or damaged.</exception>
    public static TokenHeader Parse(byte[] file, string path)
    {
        try
        {
            // The version first: a later layout may have other fields.
            using (var document = JsonDocument.Parse(file))
            {
                var format = document.RootElement.GetProperty("format").GetString();
                var version = document.RootElement.GetProperty("version").GetInt32();
                if (format != FormatName || version != CurrentVersion)
                {
                    throw Refuse(path, $"it has format '{format}' version {version}, this program reads '{FormatName}' version {CurrentVersion}");
                }
            }

            var header = JsonSerializer.Deserialize<TokenHeader>(file, Json)!;
            var checksum = header.Checksum();
            return header.HeaderSha256 == checksum
                ? header
                : throw Refuse(path, $"its fields have checksum {checksum}, but it states {header.HeaderSha256}");
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw Refuse(path, $"it is no valid header ({e.Message})", e);
        }
    }

    private static DataException Refuse(string path, string why, Exception? inner = null) =>
        new("cannot read token header", path, why, TokenFolder.PrepareAgain, inner);

    private string Checksum()
    {
        var text = JsonSerializer.SerializeToUtf8Bytes(this with { HeaderSha256 = "" }, Json);
        return Convert.ToHexStringLower(SHA256.HashData(text));
    }
}

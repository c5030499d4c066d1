using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace Moe.Torch;

/// <summary>What a safetensors file says of its tensors: a JSON object that stands behind its own length and before the data.</summary>
/// <remarks>
/// Format: https://github.com/huggingface/safetensors. Length of the JSON text (8 bytes, little-endian), the text, the data.
/// The tensors cover the data wholly, without overlap.
/// </remarks>
internal sealed class SafeTensorsHeader
{
    /// <summary>Bytes of the length that precedes the text.</summary>
    internal const int PrefixLength = 8;

    /// <summary>Longest text, in bytes, that the reference implementation reads.</summary>
    internal const int TextLimit = 100_000_000;

    internal const string MetadataKey = "__metadata__";

    /// <summary>Orders names by their UTF-8 bytes, as the reference implementation does.</summary>
    internal static readonly IComparer<byte[]> Utf8Order = Comparer<byte[]>.Create((x, y) => x.AsSpan().SequenceCompareTo(y));

    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <param name="entries">Without gap or overlap, in the order of their data.</param>
    /// <param name="metadata">Free text of the file's writer.</param>
    internal SafeTensorsHeader(IReadOnlyList<SafeTensorsEntry> entries, IReadOnlyDictionary<string, string> metadata)
    {
        Entries = entries;
        Metadata = metadata;
    }

    internal IReadOnlyList<SafeTensorsEntry> Entries { get; }

    internal IReadOnlyDictionary<string, string> Metadata { get; }

    /// <exception cref="ArgumentException">The text has half of a surrogate pair.</exception>
    internal static byte[] Utf8(string text) => StrictUtf8.GetBytes(text);

    /// <summary>Length and text, padded with spaces so that the data begins at a multiple of 8 bytes.</summary>
    /// <exception cref="ArgumentException">The text is longer than <see cref="TextLimit"/>, or a name is not Unicode.</exception>
    internal byte[] ToBytes()
    {
        var text = Utf8(ToJson());
        var padded = (text.Length + 7) / 8 * 8;
        if (padded > TextLimit)
        {
            throw new ArgumentException($"the header of {Entries.Count} tensors takes {padded} bytes; readers accept {TextLimit}");
        }

        var bytes = new byte[PrefixLength + padded];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, (ulong)padded);
        text.CopyTo(bytes, PrefixLength);
        bytes.AsSpan(PrefixLength + text.Length).Fill((byte)' ');
        return bytes;
    }

    // The text is put together by hand: the reference implementation leaves all but quotes, backslashes and control characters
    // as they are, and the framework's JSON writer has no encoder that does the same.
    private string ToJson()
    {
        var json = new StringBuilder("{");
        if (Metadata.Count > 0)
        {
            AppendString(json, MetadataKey).Append(":{");
            foreach (var (key, value) in Metadata.OrderBy(m => Utf8(m.Key), Utf8Order))
            {
                AppendString(json, key).Append(':');
                AppendString(json, value).Append(',');
            }

            json[^1] = '}';
            json.Append(',');
        }

        foreach (var entry in Entries)
        {
            AppendString(json, entry.Key)
                .Append(":{\"dtype\":\"").Append(SafeTensorsTypes.NameOf(entry.DType))
                .Append("\",\"shape\":[").AppendJoin(',', entry.Shape)
                .Append("],\"data_offsets\":[").Append(entry.Offset).Append(',').Append(entry.End).Append("]},");
        }

        if (json[^1] == ',')
        {
            json.Length--;
        }

        return json.Append('}').ToString();
    }

    private static StringBuilder AppendString(StringBuilder json, string text)
    {
        json.Append('"');
        foreach (var character in text)
        {
            _ = character switch
            {
                '"' => json.Append("\\\""),
                '\\' => json.Append("\\\\"),
                '\b' => json.Append("\\b"),
                '\f' => json.Append("\\f"),
                '\n' => json.Append("\\n"),
                '\r' => json.Append("\\r"),
                '\t' => json.Append("\\t"),
                < ' ' => json.Append("\\u").Append(((int)character).ToString("x4", CultureInfo.InvariantCulture)),
                _ => json.Append(character),
            };
        }

        return json.Append('"');
    }
}

using System.Text;

namespace Moe.Data;

/// <summary>Decodes tokens one at a time, as a model writes them: a character appears with the last of its bytes.</summary>
/// <remarks>The texts returned, put together, equal <see cref="ByteTokenizer.Decode"/> of all tokens. Not for several threads at once.</remarks>
public sealed class ByteStreamDecoder
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();

    /// <returns>The text that <paramref name="token"/> completes; empty within a character.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The id is not below <see cref="ByteTokenizer.Vocabulary"/>.</exception>
    public string Push(long token) => Decode([ByteTokenizer.ToByte(token)], flush: false);

    /// <returns>U+FFFD where the tokens end within a character, else nothing; the decoder is then as new.</returns>
    public string Flush() => Decode([], flush: true);

    private string Decode(ReadOnlySpan<byte> bytes, bool flush)
    {
        Span<char> characters = stackalloc char[4]; // U+FFFD for a broken sequence, and a surrogate pair at most
        return new string(characters[.._decoder.GetChars(bytes, characters, flush)]);
    }
}

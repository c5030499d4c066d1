using System.Text;

namespace Moe.Data;

/// <summary>A token is a byte of the text's UTF-8: 256 tokens, nothing to train, and losses are nats per byte.</summary>
public static class ByteTokenizer
{
    /// <summary>Recorded in every token folder, so that another tokenizer's tokens are not taken for bytes.</summary>
    public const string Name = "byte";

    /// <summary>Number of token ids; they are 0 to 255.</summary>
    public const int Vocabulary = 256;

    /// <returns>One id per UTF-8 byte; a lone surrogate becomes U+FFFD.</returns>
    public static long[] Encode(string text)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        var tokens = new long[bytes.Length];
        for (var i = 0; i < bytes.Length; i++)
        {
            tokens[i] = bytes[i];
        }

        return tokens;
    }

    /// <summary>Encodes text that is already UTF-8; other bytes pass unchanged.</summary>
    /// <param name="utf8">n bytes.</param>
    /// <param name="tokens">Receives n ids.</param>
    public static void Encode(ReadOnlySpan<byte> utf8, Span<ushort> tokens)
    {
        for (var i = 0; i < utf8.Length; i++)
        {
            tokens[i] = utf8[i];
        }
    }

    /// <summary>Text of the tokens, for display: bytes that are not UTF-8 become U+FFFD, as a model may write anything.</summary>
    /// <exception cref="ArgumentOutOfRangeException">An id is not below <see cref="Vocabulary"/>.</exception>
    public static string Decode(ReadOnlySpan<long> tokens)
    {
        var bytes = new byte[tokens.Length];
        for (var i = 0; i < bytes.Length; i++)
        {
            bytes[i] = ToByte(tokens[i]);
        }

        return Encoding.UTF8.GetString(bytes);
    }

    internal static byte ToByte(long token)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(token);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(token, Vocabulary);
        return (byte)token;
    }
}

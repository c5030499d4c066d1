using System.Text;
using FsCheck;
using Moe.Data;
using NUnit.Framework;
using PropertyAttribute = FsCheck.NUnit.PropertyAttribute;

namespace Moe.Tests.Data;

public sealed class ByteTokenizerTests
{
    [TestCase("")]
    [TestCase("First Citizen:\nBefore we proceed")]
    [TestCase("naïve Žižek, 漢字, \U0001F600, e\u0301, \0, \uFEFF")]
    public void Text_survives_encoding_and_decoding(string text) =>
        Assert.That(ByteTokenizer.Decode(ByteTokenizer.Encode(text)), Is.EqualTo(text));

    [Test]
    public void Tokens_are_the_bytes_of_utf8() =>
        Assert.That(ByteTokenizer.Encode("aé漢😀"), Is.EqualTo(new long[] { 0x61, 0xC3, 0xA9, 0xE6, 0xBC, 0xA2, 0xF0, 0x9F, 0x98, 0x80 }));

    [Property]
    public void Any_bytes_decode_and_streaming_gives_the_same_text(byte[] bytes)
    {
        var decoder = new ByteStreamDecoder();
        var streamed = new StringBuilder();
        foreach (var token in bytes)
        {
            streamed.Append(decoder.Push(token));
        }

        streamed.Append(decoder.Flush());
        var tokens = bytes.Select(token => (long)token).ToArray();
        Assert.That(streamed.ToString(), Is.EqualTo(ByteTokenizer.Decode(tokens)));
        Assert.That(streamed.ToString(), Is.EqualTo(Encoding.UTF8.GetString(bytes)));
    }

    // Random bytes seldom start a long character; truncated and damaged real ones do.
    [Property]
    public void Damaged_characters_stream_to_the_same_text_as_decoded_whole(NonNull<string> text, PositiveInt damage)
    {
        var bytes = Encoding.UTF8.GetBytes(text.Get + "漢😀é" + text.Get);
        bytes[damage.Get % bytes.Length] ^= (byte)(1 << (damage.Get % 8));
        Any_bytes_decode_and_streaming_gives_the_same_text(bytes[..^(damage.Get % 4)]);
    }

    [Test]
    public void A_character_appears_with_its_last_byte()
    {
        var decoder = new ByteStreamDecoder();
        var pieces = ByteTokenizer.Encode("a😀é").Select(decoder.Push);
        Assert.That(pieces, Is.EqualTo(new[] { "a", "", "", "", "😀", "", "é" }));
    }

    [Test]
    public void Flush_ends_a_partial_character_and_starts_afresh()
    {
        var decoder = new ByteStreamDecoder();
        Assert.That(decoder.Push(0xF0) + decoder.Push(0x9F), Is.Empty);
        Assert.That(decoder.Flush(), Is.EqualTo("\uFFFD"));
        Assert.That(decoder.Push('x') + decoder.Flush(), Is.EqualTo("x"));
    }

    [TestCase(-1)]
    [TestCase(256)]
    public void Ids_outside_the_vocabulary_are_refused(long token)
    {
        Assert.That(() => ByteTokenizer.Decode([token]), Throws.TypeOf<ArgumentOutOfRangeException>());
        Assert.That(() => new ByteStreamDecoder().Push(token), Throws.TypeOf<ArgumentOutOfRangeException>());
    }
}

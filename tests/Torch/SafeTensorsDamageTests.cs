using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Torch;

public sealed class SafeTensorsDamageTests
{
    // Sound, with all that the format has: metadata, an escape, an empty tensor, a scalar, four types, padding.
    private const string Sound = """
        {"__metadata__":{"format":"pt","note":"a\nb"},"n":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[16,40]},"e":{"dtype":"F32","shape":[0,7],"data_offsets":[40,40]},"h":{"dtype":"BF16","shape":[],"data_offsets":[40,42]},"b":{"dtype":"U8","shape":[1,5],"data_offsets":[42,47]}}   
        """;

    private const int SoundLength = 47;

    private TemporaryFolder _folder = null!;

    [SetUp]
    public void Open() => _folder = new TemporaryFolder();

    [TearDown]
    public void Close() => _folder.Dispose();

    // One tensor "x" described by `fields` over 8 bytes of data.
    [TestCase(""" "dtype":"F32","shape":[3],"data_offsets":[0,8] """, "shape [3] of Float32 takes 12 bytes, data_offsets [0, 8] give 8")]
    [TestCase(""" "dtype":"F32","shape":[],"data_offsets":[0,8] """, "shape [] of Float32 takes 4 bytes")]
    [TestCase(""" "dtype":"F32","shape":[2],"data_offsets":[8,0] """, "begin at 8, behind their end at 0")]
    [TestCase(""" "dtype":"F32","shape":[3],"data_offsets":[0,12] """, "end at 12, past the 8 bytes of data")]
    [TestCase(""" "dtype":"F32","shape":[1],"data_offsets":[4,8] """, "leaving bytes 0 to 4 to no tensor")]
    [TestCase(""" "dtype":"F32","shape":[-2],"data_offsets":[0,8] """, "shape has '-2'")]
    [TestCase(""" "dtype":"F32","shape":[2.0],"data_offsets":[0,8] """, "shape has '2.0'")]
    [TestCase(""" "dtype":"F32","shape":["2"],"data_offsets":[0,8] """, "shape has '2'")]
    [TestCase(""" "dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8] """, "shape has '9223372036854775808'")]
    [TestCase(""" "dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8] """, "more bytes than 64 bits can count")]
    [TestCase(""" "dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8] """, "more bytes than 64 bits can count")]
    [TestCase(""" "dtype":"F32","shape":[[2]],"data_offsets":[0,8] """, "shape has '['")]
    [TestCase(""" "dtype":"F32","shape":2,"data_offsets":[0,8] """, "shape is not an array")]
    [TestCase(""" "dtype":"F32","shape":[2],"data_offsets":[0,4,8] """, "data_offsets has 3 numbers, not 2")]
    [TestCase(""" "dtype":"F32","shape":[2],"data_offsets":[0,1e1] """, "data_offsets has '1e1'")]
    [TestCase(""" "dtype":"F33","shape":[2],"data_offsets":[0,8] """, "dtype 'F33' is not among BOOL, U8")]
    [TestCase(""" "dtype":6,"shape":[2],"data_offsets":[0,8] """, "dtype is not a string")]
    [TestCase(""" "shape":[2],"data_offsets":[0,8] """, "lacks dtype")]
    [TestCase(""" "dtype":"F32","data_offsets":[0,8] """, "lacks shape")]
    [TestCase(""" "dtype":"F32","shape":[2] """, "lacks data_offsets")]
    [TestCase(""" "dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8] """, "field 'shape' is repeated")]
    [TestCase(""" "dtype":"F32","shape":[2],"data_offsets":[0,8],"device":"cpu" """, "field 'device' is repeated, or none of")]
    public void Damaged_tensor_is_refused_by_name(string fields, string message)
    {
        var path = _folder.Write($$$"""{"layers.0.x":{{{{fields}}}}}""", 8);
        var fault = Assert.Throws<SafeTensorsException>(() => SafeTensorsFile.Open(path));
        Assert.That(fault.Message, Does.StartWith($"{path}: tensor 'layers.0.x': ").And.Contains(message));
        Assert.That((fault.Path, fault.Tensor), Is.EqualTo((path, "layers.0.x")));
    }

    // Tensors "a" and "b" of bytes at the given offsets over 8 bytes of data.
    [TestCase(0, 5, 4, 8, "b", "data begins at 4, inside 'a', which ends at 5")]
    [TestCase(0, 8, 0, 8, "b", "data begins at 0, inside 'a', which ends at 8")]
    [TestCase(0, 8, 3, 3, "b", "data begins at 3, inside 'a', which ends at 8")]
    [TestCase(4, 8, 0, 6, "a", "data begins at 4, inside 'b', which ends at 6")]
    [TestCase(0, 3, 4, 8, "b", "data begins at 4, leaving bytes 3 to 4 to no tensor")]
    [TestCase(0, 3, 3, 7, null, "the tensors end at 7, leaving bytes 7 to 8 of the data to no tensor")]
    public void Overlaps_and_gaps_are_refused_with_both_places(int a, int endOfA, int b, int endOfB, string? tensor, string message)
    {
        var header = $$$"""
            {"a":{"dtype":"U8","shape":[{{{endOfA - a}}}],"data_offsets":[{{{a}}},{{{endOfA}}}]},"b":{"dtype":"U8","shape":[{{{endOfB - b}}}],"data_offsets":[{{{b}}},{{{endOfB}}}]}}
            """;
        AssertRefused(_folder.Write(header, 8), tensor, message);
    }

    [TestCase("", "does not begin with '{'")]
    [TestCase(" {}", "does not begin with '{'")]
    [TestCase("[]", "does not begin with '{'")]
    [TestCase("{", "is not JSON")]
    [TestCase("{}x", "is not JSON")]
    [TestCase("{}{}", "is not JSON")]
    [TestCase("{\"x\":}", "is not JSON")]
    [TestCase("{/* */}", "is not JSON")]
    [TestCase("""{"__metadata__":null}""", "__metadata__ is not an object")]
    [TestCase("""{"__metadata__":{"format":1}}""", "__metadata__ has 'format', which is not a string")]
    [TestCase("""{"__metadata__":{"a":"1","a":"2"}}""", "__metadata__ has 'a' twice")]
    [TestCase("""{"__metadata__":{"a":"\ud800"}}""", "half of a surrogate pair")]
    public void Damaged_header_is_refused(string header, string message) => AssertRefused(_folder.Write(header, 0), null, message);

    [TestCase("""{"x":3}""", "x", "is not described by an object")]
    [TestCase("""{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}""", "x", "occurs twice")]
    [TestCase("""{"__metadata__":{},"__metadata__":{}}""", "__metadata__", "occurs twice")]
    public void Repeated_or_shapeless_keys_are_refused(string header, string tensor, string message) =>
        AssertRefused(_folder.Write(header, 0), tensor, message);

    [Test]
    public void Length_of_the_header_is_checked_before_anything_is_read()
    {
        AssertRefused(_folder.Write([]), null, "0 bytes are too few");
        AssertRefused(_folder.Write([1, 0, 0, 0, 0, 0, 0]), null, "7 bytes are too few");
        AssertRefused(_folder.Write("{}", 0, statedLength: 3), null, "a header of 3 bytes passes the end of the file at 10");
        AssertRefused(_folder.Write("{}", 0, statedLength: 100_000_001), null, "a header of 100000001 bytes is beyond the format's limit");
        AssertRefused(_folder.Write("{}", 0, statedLength: ulong.MaxValue), null, "a header of 18446744073709551615 bytes is beyond");
        AssertRefused(_folder.Write([2, 0, 0, 0, 0, 0, 0, 0, (byte)'{', 0xFF]), null, "is not UTF-8");
    }

    [Test]
    public void Message_about_an_endless_name_stays_short()
    {
        var path = _folder.Write($$"""{"{{new string('x', 1_000_000)}}":3}""", 0);
        Assert.That(Assert.Throws<SafeTensorsException>(() => SafeTensorsFile.Open(path)).Message, Has.Length.LessThan(1000).And.Contains("1000000 characters"));
    }

    [Test]
    public void Every_truncation_of_a_sound_file_is_refused()
    {
        var content = File.ReadAllBytes(_folder.Write(Sound, SoundLength));
        for (var length = 0; length < content.Length; length++)
        {
            var path = _folder.Write(content[..length]);
            Assert.That(() => SafeTensorsFile.Open(path), Throws.TypeOf<SafeTensorsException>(), $"{length} of {content.Length} bytes");
        }
    }

    [FsCheck.NUnit.Property(MaxTest = 3000)]
    public Property Changed_bytes_are_refused_or_read_within_the_file()
    {
        var changes = ArbMap.Default.GeneratorFor<(ushort Place, byte Value)>().NonEmptyListOf();
        return Prop.ForAll(changes.ToArbitrary(), list =>
        {
            var content = File.ReadAllBytes(_folder.Write(Sound, SoundLength));
            foreach (var (place, value) in list.Take(8))
            {
                content[place % (content.Length - SoundLength)] = value;
            }

            return ReadsOrRefuses(content);
        });
    }

    [FsCheck.NUnit.Property(MaxTest = 3000)]
    public Property Changed_characters_that_keep_it_JSON_are_refused_or_read_within_the_file()
    {
        // Digits, brackets and letters that matter to the format reach deeper than random bytes do.
        var changes = Gen.Elements("0123456789-,[]{}\":eFUI\\ ".ToCharArray())
            .Zip(Gen.Choose(0, Sound.Length - 1))
            .NonEmptyListOf();
        return Prop.ForAll(changes.ToArbitrary(), list =>
        {
            var text = new StringBuilder(Sound);
            foreach (var (character, place) in list.Take(3))
            {
                text[place] = character;
            }

            return ReadsOrRefuses(File.ReadAllBytes(_folder.Write(text.ToString(), SoundLength)));
        });
    }

    private static void AssertRefused(string path, string? tensor, string message)
    {
        var fault = Assert.Throws<SafeTensorsException>(() => SafeTensorsFile.Open(path));
        Assert.That(fault.Message, Does.StartWith($"{path}: ").And.Contains(message));
        Assert.That(fault.Tensor, Is.EqualTo(tensor));
    }

    private bool ReadsOrRefuses(byte[] content)
    {
        var path = _folder.Write(content);
        try
        {
            using var file = SafeTensorsFile.Open(path);
            var covered = 0L;
            foreach (var key in file.Keys)
            {
                var entry = file.Entry(key);
                var start = content.Length - SoundLength + (int)entry.Offset;
                if (!file.Bytes(key).SequenceEqual(content.AsSpan(start, (int)entry.Length)))
                {
                    return false;
                }

                covered += entry.Length;
            }

            return covered == SoundLength;
        }
        catch (SafeTensorsException)
        {
            return true;
        }
        finally
        {
            File.Delete(path);
        }
    }
}

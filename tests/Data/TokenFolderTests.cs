using System.Globalization;
using System.Security.Cryptography;
using FsCheck;
using Moe.Data;
using NUnit.Framework;
using static Moe.Tests.Data.Refusal;
using PropertyAttribute = FsCheck.NUnit.PropertyAttribute;

namespace Moe.Tests.Data;

public sealed class TokenFolderTests
{
    private TextFolder _texts = null!;

    [SetUp]
    public void Create() => _texts = new TextFolder();

    [TearDown]
    public void Delete() => _texts.Dispose();

    [Property(MaxTest = 20)]
    public void Tokens_of_several_files_are_their_bytes_in_ordinal_order(NonEmptyArray<NonEmptyArray<byte>> contents)
    {
        using var texts = new TextFolder();
        for (var i = 0; i < contents.Get.Length; i++)
        {
            texts.Write($"corpus/{(i % 3 == 0 ? "B/" : i % 3 == 1 ? "a-" : "")}{i:x}.txt", contents.Get[i].Get);
        }

        TokenFolder.Prepare([texts["corpus"]], texts["tokens"]);
        using var folder = TokenFolder.Open(texts["tokens"]);

        var files = Directory.GetFiles(texts["corpus"], "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).ToArray();
        Assert.That(folder.Documents.Select(d => Path.Combine(texts.Root, d.Name)), Is.EqualTo(files));
        foreach (var (file, document) in files.Zip(folder.Documents))
        {
            var expected = File.ReadAllBytes(file);
            Assert.That(ReadAll(folder, document.Offset, document.Tokens), Is.EqualTo(expected.Select(b => (long)b)));
            Assert.That(document.Bytes, Is.EqualTo(expected.Length));
            Assert.That(document.Sha256, Is.EqualTo(Convert.ToHexStringLower(SHA256.HashData(expected))));
        }

        Assert.That(folder.Count, Is.EqualTo(files.Sum(file => new FileInfo(file).Length)));
        folder.Verify();
    }

    [Test]
    public void Sources_keep_their_order_and_texts_longer_than_a_chunk_stay_whole()
    {
        var large = new byte[(5 << 19) + 7];
        new Random(3).NextBytes(large);
        TokenFolder.Prepare([_texts.Write("z.txt", large), _texts.Write("a.txt", "after")], _texts["tokens"]);
        using var folder = TokenFolder.Open(_texts["tokens"]);
        Assert.That(folder.Documents.Select(d => d.Name), Is.EqualTo(new[] { "z.txt", "a.txt" }));
        Assert.That(ReadAll(folder, 0, folder.Count), Is.EqualTo(large.Concat("after"u8.ToArray()).Select(b => (long)b)));
    }

    [Test]
    public void Hidden_entries_and_token_folders_are_no_texts()
    {
        _texts.Write("corpus/text.txt", "text");
        _texts.Write("corpus/.git/config", "hidden");
        _texts.Write("corpus/.swp", "hidden");
        _texts.Write("corpus/killed.unfinished/tokens.bin", "partial");
        TokenFolder.Prepare([_texts["corpus/text.txt"]], _texts["corpus/own.tokens"]);
        TokenFolder.Prepare([_texts["corpus"]], _texts["corpus/all.tokens"]);
        using var folder = TokenFolder.Open(_texts["corpus/all.tokens"]);
        Assert.That(folder.Documents.Select(d => d.Name), Is.EqualTo(new[] { "corpus/text.txt" }));
    }

    [Test]
    public void A_link_to_a_file_is_read_and_a_link_to_a_folder_is_refused_by_name()
    {
        _texts.Write("corpus/a.txt", "text");
        File.CreateSymbolicLink(_texts["corpus/b.txt"], _texts.Write("elsewhere/b.txt", "linked"));
        TokenFolder.Prepare([_texts["corpus"]], _texts["tokens"]);
        using var folder = TokenFolder.Open(_texts["tokens"]);
        Assert.That(ByteTokenizer.Decode(ReadAll(folder, 0, folder.Count)), Is.EqualTo("textlinked"));

        Directory.CreateSymbolicLink(_texts["corpus/loop"], _texts["corpus"]);
        Assert.That(() => TokenFolder.Prepare([_texts["corpus"]], _texts["tokens"]), Refuses("corpus/loop", "links to folder"));
    }

    [Test]
    public void Vocabulary_above_256_is_stored_in_two_bytes_little_endian()
    {
        ushort[] tokens = [0, 1, 255, 256, 0x1234, 50_256];
        using (var writer = new TokenFolderWriter(_texts["tokens"], "other", 50_257))
        {
            writer.Append(tokens);
            writer.EndDocument(new SourceFile("a.txt", "a.txt", 11, DateTime.UnixEpoch), "");
            writer.Commit();
        }

        var stored = Convert.ToHexString(File.ReadAllBytes(_texts["tokens/tokens.bin"]));
        Assert.That(stored, Is.EqualTo("0000" + "0100" + "FF00" + "0001" + "3412" + "50C4"));
        using var folder = TokenFolder.Open(_texts["tokens"]);
        Assert.That(folder.Dtype, Is.EqualTo("uint16"));
        Assert.That(ReadAll(folder, 1, 5), Is.EqualTo(tokens[1..].Select(t => (long)t)));
        folder.Verify();
        Assert.That(() => folder.RequireTokenizer(ByteTokenizer.Name, ByteTokenizer.Vocabulary), Refuses("'other' with 50257"));
    }

    [TestCase(-1, 1)]
    [TestCase(0, 6)]
    [TestCase(3, 3)]
    [TestCase(long.MaxValue, 1)]
    public void Reading_outside_the_folder_is_refused(long start, int count)
    {
        using var folder = _texts.Tokens("tokens", "12345"u8.ToArray());
        Assert.That(() => folder.Read(start, new long[count]), Throws.TypeOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void Reading_a_window_maps_its_pages_and_not_the_file()
    {
        const int size = 32 << 20;
        using var folder = _texts.Tokens("tokens", new byte[size]);
        var window = new long[257];
        folder.Read(size / 2, window);

        var allocated = GC.GetAllocatedBytesForCurrentThread();
        folder.Read(size / 4, window);
        Assert.That(GC.GetAllocatedBytesForCurrentThread() - allocated, Is.Zero);
        Assert.That(ResidentKiB(Path.Combine(folder.Location, "tokens.bin")), Is.InRange(4, size / 1024 / 8));
    }

    [Test]
    public void A_reader_keeps_its_tokens_while_the_folder_is_replaced()
    {
        using var before = _texts.Tokens("tokens", "before"u8.ToArray());
        using var after = _texts.Tokens("tokens", "after"u8.ToArray());
        Assert.That(ByteTokenizer.Decode(ReadAll(before, 0, 6)), Is.EqualTo("before"));
        Assert.That(ByteTokenizer.Decode(ReadAll(after, 0, 5)), Is.EqualTo("after"));
    }

    [Test]
    public void Inspect_tells_what_is_in_a_folder_without_control_characters()
    {
        for (var i = 0; i < 12; i++)
        {
            _texts.Write($"corpus/{i:00}.txt", $"\n\tpage {i}\u001b[31m é\n{new string('x', 200)}\n");
        }

        TokenFolder.Prepare([_texts["corpus"]], _texts["tokens"]);
        var report = TokenFolder.Inspect(_texts["tokens"]);
        var bytes = Directory.GetFiles(_texts["corpus"]).Sum(file => new FileInfo(file).Length);
        Assert.That((report.Documents, report.Tokens, report.Bytes, report.BytesPerToken), Is.EqualTo((12, bytes, bytes, 1.0)));
        Assert.That(report.Head.Select(d => d.Name), Is.EqualTo(Enumerable.Range(0, 10).Select(i => $"corpus/{i:00}.txt")));
        var cut = new string('x', 97) + "...";
        Assert.That(report.Excerpt, Is.EqualTo(new[] { "page 0\uFFFD[31m é", cut, "page 1\uFFFD[31m é", cut }));
        var sha256 = SHA256.HashData(File.ReadAllBytes(_texts["tokens/tokens.bin"]));
        Assert.That(report.Sha256, Is.EqualTo(Convert.ToHexStringLower(sha256)));
    }

    [TestCase("shakespeare.txt", 1_115_394, "First Citizen:")]
    [TestCase("kjv.txt", 1_114_961, "Ge1:1 In the beginning God created the heaven and the earth.")]
    [TestCase("sqlite.c.txt", 1_114_964, null)]
    public void Example_texts_prepare_to_as_many_tokens_as_bytes(string name, long tokens, string? firstLine)
    {
        TokenFolder.Prepare([Path.Combine(TextFolder.RepositoryData, name)], _texts["tokens"]);
        var report = TokenFolder.Inspect(_texts["tokens"]);
        Assert.That(report.Tokens, Is.EqualTo(tokens));
        Assert.That(report.Excerpt[0], Is.EqualTo(firstLine ?? report.Excerpt[0]));
    }

    private static long[] ReadAll(TokenFolder folder, long start, long count)
    {
        var tokens = new long[count];
        folder.Read(start, tokens);
        return tokens;
    }

    private static int ResidentKiB(string path)
    {
        var lines = File.ReadLines("/proc/self/smaps").SkipWhile(line => !line.EndsWith(path, StringComparison.Ordinal));
        var resident = lines.First(line => line.StartsWith("Rss:", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return int.Parse(resident[1], CultureInfo.InvariantCulture);
    }
}

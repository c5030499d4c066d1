using FsCheck;
using Moe.Data;
using NUnit.Framework;
using static Moe.Tests.Data.Refusal;
using PropertyAttribute = FsCheck.NUnit.PropertyAttribute;

namespace Moe.Tests.Data;

public sealed class TokenFolderDamageTests
{
    private TextFolder _texts = null!;

    [OneTimeSetUp]
    public void Create()
    {
        _texts = new TextFolder();
        _texts.Write("corpus/a.txt", "To be, or not to be");
        _texts.Write("corpus/b.txt", "that is the question");
        Prepare();
    }

    [OneTimeTearDown]
    public void Delete() => _texts.Dispose();

    [TearDown]
    public void Prepare()
    {
        if (Directory.Exists(Tokens))
        {
            Directory.Delete(Tokens, recursive: true);
        }

        TokenFolder.Prepare([_texts["corpus"]], Tokens);
    }

    private string Tokens => _texts["tokens"];

    [Property(MaxTest = 300)]
    public void Any_flipped_bit_is_refused_by_the_name_of_its_file(NonNegativeInt place, bool inHeader)
    {
        var name = inHeader ? "header.json" : (place.Get % 2 == 0) ? "tokens.bin" : "documents.jsonl";
        var sound = File.ReadAllBytes(Path.Combine(Tokens, name));
        var damaged = sound.ToArray();
        var bit = place.Get * 7919L % (8 * damaged.Length); // spreads FsCheck's small numbers over the file
        damaged[bit / 8] ^= (byte)(1 << (int)(bit % 8));
        File.WriteAllBytes(Path.Combine(Tokens, name), damaged);
        try
        {
            Assert.That(() => TokenFolder.Inspect(Tokens), Refuses(name), $"bit {bit} of {name}");
        }
        finally
        {
            File.WriteAllBytes(Path.Combine(Tokens, name), sound);
        }
    }

    [TestCase("header.json")]
    [TestCase("documents.jsonl")]
    [TestCase("tokens.bin")]
    public void A_truncated_file_is_refused_by_name_on_opening(string name)
    {
        var path = Path.Combine(Tokens, name);
        var length = new FileInfo(path).Length;
        foreach (var kept in new[] { length - 1, length / 2, 0 })
        {
            using (var file = File.OpenWrite(path))
            {
                file.SetLength(kept);
            }

            Assert.That(() => TokenFolder.Open(Tokens), Refuses(name, "launch data prepare"), $"{kept} of {length} bytes");
        }
    }

    [Test]
    public void Bytes_after_the_last_token_are_refused()
    {
        File.AppendAllText(Path.Combine(Tokens, "tokens.bin"), "x");
        Assert.That(() => TokenFolder.Open(Tokens), Refuses("tokens.bin", "40 bytes", "39 tokens of uint8"));
    }

    [TestCase("header.json")]
    [TestCase("documents.jsonl")]
    [TestCase("tokens.bin")]
    public void A_missing_file_is_refused_by_name(string name)
    {
        File.Delete(Path.Combine(Tokens, name));
        Assert.That(() => TokenFolder.Open(Tokens), Refuses(name));
    }

    [Test]
    public void A_missing_folder_is_refused_by_name() =>
        Assert.That(() => TokenFolder.Open(_texts["nowhere"]), Refuses("nowhere", "does not exist", "launch data prepare"));

    [Test]
    public void An_unreadable_file_is_refused_by_name()
    {
        var path = Path.Combine(Tokens, "documents.jsonl");
        File.Delete(path);
        Directory.CreateDirectory(path); // unreadable to root, too
        Assert.That(() => TokenFolder.Open(Tokens), Refuses("documents.jsonl"));
    }

    [Test]
    public void Another_version_is_refused_with_both_numbers()
    {
        var path = Path.Combine(Tokens, "header.json");
        File.WriteAllText(path, """{"format":"moe-tokens","version":2,"shards":[]}""");
        Assert.That(() => TokenFolder.Open(Tokens), Refuses("header.json", "version 2", "version 1"));
    }

    [TestCase("tokens\": 39", "tokens\": 38")]
    [TestCase("\"byte\"", "\"bite\"")]
    [TestCase("\"vocabulary\": 256", "\"vocabulary\": 512")]
    [TestCase("\"dtype\": \"uint8\",", "")]
    [TestCase("\"version\": 1,", "\"version\": 1, \"extra\": 0,")]
    [TestCase("\"byte\"", "null")]
    [TestCase("\"version\": 1", "\"version\": \"1\"")]
    [TestCase("\"version\": 1,", "")]
    public void An_edited_header_is_refused(string sound, string edited)
    {
        var path = Path.Combine(Tokens, "header.json");
        var text = File.ReadAllText(path);
        Assert.That(text, Does.Contain(sound));
        File.WriteAllText(path, text.Replace(sound, edited, StringComparison.Ordinal));
        Assert.That(() => TokenFolder.Open(Tokens), Refuses("header.json"));
    }

    [TestCase("[]")]
    [TestCase("null")]
    [TestCase("3")]
    [TestCase("{}")]
    public void Json_that_is_no_header_is_refused(string json)
    {
        File.WriteAllText(Path.Combine(Tokens, "header.json"), json);
        Assert.That(() => TokenFolder.Open(Tokens), Refuses("header.json"));
    }

    [Test]
    public void Files_of_two_preparations_do_not_pass_as_one()
    {
        TokenFolder.Prepare([_texts.Write("other/a.txt", "tO BE, OR NOT TO BE, THAT IS THE QUESTION")], _texts["mixed"]);
        File.Copy(Path.Combine(Tokens, "documents.jsonl"), Path.Combine(_texts["mixed"], "documents.jsonl"), overwrite: true);
        Assert.That(() => TokenFolder.Open(_texts["mixed"]), Refuses("documents.jsonl"));
    }
}

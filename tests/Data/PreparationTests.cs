using Moe.Data;
using NUnit.Framework;
using static Moe.Tests.Data.Refusal;

namespace Moe.Tests.Data;

public sealed class PreparationTests
{
    private TextFolder _texts = null!;

    [SetUp]
    public void Create() => _texts = new TextFolder();

    [TearDown]
    public void Delete() => _texts.Dispose();

    private string Target => _texts["tokens"];

    [Test]
    public void Missing_source_is_refused_by_name() =>
        Assert.That(() => TokenFolder.Prepare([_texts["nowhere.txt"]], Target), Refuses("nowhere.txt", "does not exist"));

    [Test]
    public void Folder_without_files_is_refused()
    {
        Directory.CreateDirectory(_texts["corpus/deeper"]);
        Assert.That(() => TokenFolder.Prepare([_texts["corpus"]], Target), Refuses("corpus", "no file"));
    }

    [TestCase("data/kjv.txt", "data/kjv.txt.tokens")]
    [TestCase("data/corpus/", "data/corpus.tokens")]
    public void Tokens_are_kept_beside_their_text(string source, string location) =>
        Assert.That(TokenFolder.DefaultLocation(source), Is.EqualTo(location));

    [Test]
    public void No_source_at_all_is_refused() => Assert.That(() => TokenFolder.Prepare([], Target), Refuses("no file"));

    [Test]
    public void Empty_files_are_refused_all_at_once()
    {
        _texts.Write("corpus/a.txt", "text");
        for (var i = 0; i < 7; i++)
        {
            _texts.Write($"corpus/empty{i}.txt", "");
        }

        var refusal = Refuses("7 of 8 files", "'corpus/empty0.txt'", "'corpus/empty4.txt', ...");
        Assert.That(() => TokenFolder.Prepare([_texts["corpus"]], Target), refusal);
        Assert.That(Directory.GetFileSystemEntries(_texts.Root), Is.EqualTo(new[] { _texts["corpus"] }));
    }

    [Test]
    public void Dangling_link_is_refused_by_name()
    {
        _texts.Write("corpus/a.txt", "text");
        File.CreateSymbolicLink(_texts["corpus/gone.txt"], _texts["nowhere.txt"]);
        Assert.That(() => TokenFolder.Prepare([_texts["corpus"]], Target), Refuses("gone.txt", "does not exist"));
    }

    [Test]
    public void The_same_name_twice_is_refused()
    {
        var first = _texts.Write("one/a.txt", "1");
        var second = _texts.Write("two/a.txt", "2");
        Assert.That(() => TokenFolder.Prepare([first, second], Target), Refuses("'a.txt' is named twice"));
    }

    [Test]
    public void Progress_ends_with_all_bytes_and_never_goes_back()
    {
        var reports = new List<PrepareProgress>();
        _texts.Write("corpus/a.txt", new byte[(1 << 20) + 5]);
        _texts.Write("corpus/b.txt", "end");
        TokenFolder.Prepare([_texts["corpus"]], Target, new Immediate(reports.Add));
        const long total = (1 << 20) + 8;
        Assert.That(reports, Is.EqualTo(new PrepareProgress[]
        {
            new("corpus/a.txt", 1 << 20, total), new("corpus/a.txt", (1 << 20) + 5, total), new("corpus/b.txt", total, total),
        }));
    }

    [Test]
    public void A_failing_preparation_leaves_the_older_folder_and_nothing_else()
    {
        _texts.Write("corpus/a.txt", "old");
        TokenFolder.Prepare([_texts["corpus"]], Target);
        _texts.Write("corpus/a.txt", "new");
        var vanishing = _texts.Write("corpus/b.txt", "vanishes while the first text is read");

        var progress = new Immediate(_ => File.Delete(vanishing));
        Assert.That(() => TokenFolder.Prepare([_texts["corpus"]], Target, progress), Refuses("corpus/b.txt"));
        Assert.That(Directory.GetFileSystemEntries(_texts.Root), Is.EquivalentTo(new[] { _texts["corpus"], Target }));
        Assert.That(TokenFolder.Inspect(Target).Excerpt, Is.EqualTo(new[] { "old" }));
    }

    [Test]
    public void A_text_that_grows_while_it_is_read_is_refused()
    {
        _texts.Write("corpus/a.txt", "first");
        var growing = _texts.Write("corpus/b.txt", "second");
        var progress = new Immediate(_ => File.AppendAllText(growing, " and more"));
        Assert.That(() => TokenFolder.Prepare([_texts["corpus"]], Target, progress), Refuses("b.txt", "6 bytes when listed and 15"));
        Assert.That(TokenFolder.Exists(Target), Is.False);
    }

    [Test]
    public void What_a_killed_preparation_leaves_is_not_read_and_is_replaced_by_the_next()
    {
        var text = _texts.Write("a.txt", "text");
        _texts.Write("tokens.unfinished/tokens.bin", "much more than the text has, from another text");
        _texts.Write("tokens.unfinished/documents.jsonl", "{\"name\":");
        _texts.Write("tokens.replaced/header.json", "{}");
        Assert.That(() => TokenFolder.Open(Target), Refuses("does not exist"));

        Assert.That(TokenFolder.PrepareIfStale([text], Target), Is.EqualTo("it does not exist"));
        Assert.That(TokenFolder.Inspect(Target).Tokens, Is.EqualTo(4));
        Assert.That(Directory.GetFileSystemEntries(_texts.Root), Is.EquivalentTo(new[] { text, Target }));
    }

    [Test]
    public void Two_preparations_of_one_folder_do_not_mix()
    {
        var text = _texts.Write("a.txt", "second");
        using (var first = new TokenFolderWriter(Target, ByteTokenizer.Name, ByteTokenizer.Vocabulary))
        {
            first.Append([.. "fir"u8.ToArray().Select(b => (ushort)b)]);
            Assert.That(() => TokenFolder.Prepare([text], Target), Refuses("tokens", "no other process"));
            first.Append([.. "st"u8.ToArray().Select(b => (ushort)b)]);
            first.EndDocument(new SourceFile("first.txt", "first.txt", 5, DateTime.UnixEpoch), "");
            first.Commit();
        }

        Assert.That(TokenFolder.Inspect(Target).Excerpt, Is.EqualTo(new[] { "first" }));
    }

    [Test]
    public void A_folder_of_something_else_is_never_replaced()
    {
        var text = _texts.Write("a.txt", "text");
        var precious = _texts.Write("tokens/thesis.tex", "precious");
        Assert.That(() => TokenFolder.Prepare([text], Target), Refuses("thesis.tex", "choose another target"));
        Assert.That(() => TokenFolder.PrepareIfStale([text], Target), Refuses("thesis.tex"));
        Assert.That(() => TokenFolder.Prepare([text], precious), Refuses("thesis.tex", "a file of that name"));
        Assert.That(File.ReadAllText(precious), Is.EqualTo("precious"));
    }

    [Test]
    public void Unchanged_or_merely_touched_texts_are_not_prepared_again()
    {
        var text = _texts.Write("a.txt", "text");
        TokenFolder.Prepare([text], Target);
        var written = File.GetLastWriteTimeUtc(Path.Combine(Target, "header.json"));
        Assert.That(TokenFolder.PrepareIfStale([text], Target), Is.Null);
        File.SetLastWriteTimeUtc(text, DateTime.UtcNow.AddHours(1));
        Assert.That(TokenFolder.PrepareIfStale([text], Target), Is.Null);
        Assert.That(File.GetLastWriteTimeUtc(Path.Combine(Target, "header.json")), Is.EqualTo(written));
    }

    [Test]
    public void Changed_added_renamed_texts_and_damage_are_prepared_again_with_the_reason()
    {
        string[] sources = [_texts["corpus"]];
        var text = _texts.Write("corpus/a.txt", "text");
        Assert.That(TokenFolder.PrepareIfStale(sources, Target), Is.EqualTo("it does not exist"));

        File.WriteAllText(text, "tests");
        AssertPreparedAgain("'corpus/a.txt' has changed");

        File.WriteAllText(text, "tenth");
        File.SetLastWriteTimeUtc(text, DateTime.UtcNow.AddHours(1)); // same length; the clock may not have moved
        AssertPreparedAgain("'corpus/a.txt' has changed");

        _texts.Write("corpus/b.txt", "more");
        AssertPreparedAgain("2 texts, it was prepared from 1");

        File.Move(text, _texts["corpus/c.txt"]);
        AssertPreparedAgain("'corpus/b.txt' stands where 'corpus/a.txt' stood");

        File.WriteAllText(Path.Combine(Target, "header.json"), """{"format":"moe-tokens","version":0}""");
        AssertPreparedAgain("version 0");

        File.AppendAllText(Path.Combine(Target, "tokens.bin"), "x");
        AssertPreparedAgain("bytes");

        void AssertPreparedAgain(string reason)
        {
            Assert.That(TokenFolder.PrepareIfStale(sources, Target), Does.Contain(reason));
            Assert.That(TokenFolder.PrepareIfStale(sources, Target), Is.Null);
            Assert.That(TokenFolder.Inspect(Target).Tokens, Is.EqualTo(Directory.GetFiles(_texts["corpus"]).Sum(file => new FileInfo(file).Length)));
        }
    }

    // Progress<T> posts to another thread; this one reports in place.
    private sealed class Immediate(Action<PrepareProgress> report) : IProgress<PrepareProgress>
    {
        public void Report(PrepareProgress value) => report(value);
    }
}

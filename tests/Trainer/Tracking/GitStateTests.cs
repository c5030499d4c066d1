using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

internal sealed class GitStateTests
{
    private const string Hash = "0123456789abcdef0123456789abcdef01234567";

    private string _folder = "";

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("moe-git-").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public void Branch_and_commit_are_found_from_a_folder_below()
    {
        Write(".git/HEAD", "ref: refs/heads/topic/a\n");
        Write(".git/refs/heads/topic/a", Hash + "\n");
        Write(".git/config", "[core]\n\tbare = false\n[remote \"other\"]\n\turl = x\n[remote \"origin\"]\n\turl = https://ada:hush@host/r.git\n\tfetch = y\n");
        Directory.CreateDirectory(Path.Combine(_folder, "a/b"));
        Assert.That(GitState.Find(Path.Combine(_folder, "a/b")), Is.EqualTo(new GitState(Hash, "topic/a", "https://host/r.git")));
    }

    [Test]
    public void Packed_branch_of_a_further_work_tree_is_found()
    {
        Write("main/.git/HEAD", "ref: refs/heads/main\n");
        Write("main/.git/packed-refs", $"# pack-refs with: peeled\n{new string('f', 40)} refs/heads/main\n{Hash} refs/heads/side\n");
        Write("main/.git/worktrees/side/HEAD", "ref: refs/heads/side\n");
        Write("main/.git/worktrees/side/commondir", "../..\n");
        Write("side/.git", $"gitdir: {_folder}/main/.git/worktrees/side\n");
        Assert.That(GitState.Find(Path.Combine(_folder, "side")), Is.EqualTo(new GitState(Hash, "side", null)));
    }

    [Test]
    public void Commit_without_a_branch_is_found()
    {
        Write(".git/HEAD", Hash + "\n");
        Assert.That(GitState.Find(_folder), Is.EqualTo(new GitState(Hash, null, null)));
    }

    [Test]
    public void Folder_outside_of_any_repository_has_none() => Assert.That(GitState.Find(_folder), Is.Null);

    private void Write(string path, string text)
    {
        var full = Path.Combine(_folder, path);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        File.WriteAllText(full, text);
    }
}

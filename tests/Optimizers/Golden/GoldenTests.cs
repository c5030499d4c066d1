using NUnit.Framework;

namespace Moe.Tests.Optimizers.Golden;

/// <summary>Our optimizers against the numbers of the published programs, step by step: every file of the folder that MOE_GOLDENS names.</summary>
[Category("Golden")]
public class GoldenTests
{
    private static IEnumerable<TestCaseData> Files => GoldenFolder.Names.Select(name => new TestCaseData(name).SetArgDisplayNames(name));

    [TestCaseSource(nameof(Files))]
    public void Every_step_is_that_of_the_published_program(string name)
    {
        var file = GoldenFolder.Read(name);
        var replays = GoldenReplays.All.Where(replay => replay.Understands(file)).ToArray();
        Assert.That(replays, Has.Length.EqualTo(1), $"{name}: replays that understand its source, '{file.Source}'");
        replays[0].Replay(file);
    }

    [Test]
    public void Folder_holds_golden_files() => Assert.That(
        GoldenFolder.Names,
        Is.Not.Empty,
        $"no *.json in '{GoldenFolder.Path}'; set {GoldenFolder.Variable} to a folder of golden files, or unset it for the project's own");
}

using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>A fixture with a folder that holds the text of <see cref="TinyRun"/>, fresh in each run of the tests.</summary>
public abstract class TinyRunTests
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("moe-training-");

    protected string Folder => _folder.FullName;

    [OneTimeSetUp]
    public void WriteText()
    {
        var seed = Random.Shared.Next(1 << 30);
        TestContext.Progress.WriteLine($"{GetType().Name}: text of seed {seed}");
        TinyRun.WriteText(Folder, seed);
    }

    [OneTimeTearDown]
    public void DeleteFolder() => _folder.Delete(recursive: true);
}

using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>A fixture whose tests have a launcher of their own, with the folder that it works in.</summary>
internal abstract class LaunchTests
{
    protected LaunchedRun Launched { get; private set; } = null!;

    [SetUp]
    public void CreateRun() => Launched = new LaunchedRun();

    [TearDown]
    public void DisposeRun() => Launched.Dispose();
}

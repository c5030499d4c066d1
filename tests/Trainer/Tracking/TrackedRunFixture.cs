using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>Tests of one run folder that is told to one server: both are new for each test.</summary>
internal abstract class TrackedRunFixture
{
    protected FakeMlflow Server { get; private set; } = null!;

    protected TrackedFolder Folder { get; private set; } = null!;

    protected FakeRun OnlyRun => Server.Store.Runs.Single();

    [SetUp]
    public void Start()
    {
        Server = new FakeMlflow();
        Folder = new TrackedFolder(Server.Uri);
    }

    [TearDown]
    public void Stop()
    {
        Server.Dispose();
        Folder.Dispose();
    }

    /// <summary>One attempt of a run, all of which must reach the server.</summary>
    protected void Track(Action<RunTracker>? tell = null, long lastStep = 0, int ranks = 1, string status = TrackedStatus.Finished)
    {
        using var tracker = Folder.Open(lastStep, ranks);
        tell?.Invoke(tracker);
        Assert.That(tracker.Finish(status), Is.True, string.Join('\n', Folder.Warnings));
    }
}

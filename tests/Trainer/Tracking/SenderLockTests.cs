using Moe.Tests.Launch;
using Moe.Training.Hosting;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>Who may send a run's journal, and what is no such question.</summary>
internal sealed class SenderLockTests
{
    private TrackedFolder _folder = null!;

    [SetUp]
    public void Start() => _folder = new TrackedFolder("http://127.0.0.1:1");

    [TearDown]
    public void Stop() => _folder.Dispose();

    [Test]
    public void One_has_the_right_at_a_time_and_its_name_can_be_read()
    {
        using (SenderLock.TryTake(_folder.Run))
        {
            Assert.That(SenderLock.TryTake(_folder.Run), Is.Null);
            Assert.That(SenderLock.Holder(_folder.Run), Is.EqualTo($"another process (pid {Environment.ProcessId} on {Environment.MachineName})"));
        }

        using var next = SenderLock.TryTake(_folder.Run);
        Assert.That(next, Is.Not.Null);
    }

    [TestCase("")]
    [TestCase("\0\0\0\0")]
    public void Holder_that_left_no_name_is_another_process(string text)
    {
        File.WriteAllText(_folder.Run.TrackingLockFile, text);
        Assert.That(SenderLock.Holder(_folder.Run), Is.EqualTo("another process"));
    }

    [Test]
    public void File_that_cannot_be_opened_is_told_as_itself_and_not_as_busy()
    {
        File.CreateSymbolicLink(_folder.Run.TrackingLockFile, _folder.Run.TrackingLockFile); // ELOOP
        Assert.That(() => SenderLock.TryTake(_folder.Run), Throws.InstanceOf<IOException>().With.Message.Contains("mlflow.lock"));
        Assert.That(_folder.Open(), Is.Null);
        Assert.That(_folder.Warnings.Single(), Does.StartWith("MLflow: the run is not tracked: ").And.Contain("mlflow.lock"));
    }

    [Test]
    public void Disk_that_can_only_be_read_is_told_as_itself_and_not_as_busy()
    {
        using var disk = SmallDisk.Mount(_folder.Root, "64k", readOnly: true);
        Assert.That(() => SenderLock.TryTake(new RunFolder(disk.Folder)), Throws.InstanceOf<IOException>().With.Message.Contains("Read-only file system"));
    }

    [Test]
    public void Full_disk_takes_the_holders_name_and_not_the_right()
    {
        using var disk = SmallDisk.Mount(_folder.Root, "64k");
        var run = new RunFolder(disk.Folder);
        SenderLock.TryTake(run)!.Dispose();
        disk.Fill();

        using var held = SenderLock.TryTake(run);
        Assert.That(held, Is.Not.Null);
        Assert.That(SenderLock.TryTake(run), Is.Null);
        Assert.That(SenderLock.Holder(run), Does.StartWith("another process"));
    }
}

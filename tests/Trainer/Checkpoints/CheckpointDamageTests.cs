using System.Security.Cryptography;
using Moe.Tests.Training;
using Moe.Training.Checkpoints;
using NUnit.Framework;

namespace Moe.Tests.Checkpoints;

/// <summary>Files of a checkpoint that are not as they were written, and leftovers of saves that never ended.</summary>
public class CheckpointDamageTests : TinyRunTests
{
    private const string Shard = "shard_00000.safetensors";

    private CheckpointFolder _checkpoints = null!;

    private static IEnumerable<TestCaseData> Damages =>
    [
        Damage("Truncated_shard", folder => Change(folder, Shard, bytes => bytes[..^1]), $"{Shard}' has"),
        Damage("Shard_with_a_flipped_bit", folder => Change(folder, Shard, FlipOneBit), $"{Shard}' is damaged"),
        Damage("Missing_shard", folder => File.Delete(Path.Combine(folder, Shard)), $"{Shard}' cannot be read"),
        Damage("Missing_manifest", folder => File.Delete(Path.Combine(folder, CheckpointManifest.FileName)), "manifest.json' cannot be read"),
        Damage("Truncated_manifest", folder => Change(folder, CheckpointManifest.FileName, bytes => bytes[..(bytes.Length / 2)]), "manifest.json' is damaged"),
        Damage("Manifest_with_a_flipped_bit", folder => Change(folder, CheckpointManifest.FileName, FlipOneBit), "manifest.json' is damaged"),
        Damage("Manifest_without_its_sum", folder => File.Delete(Path.Combine(folder, CheckpointManifest.SumFileName)), "manifest.sha256"),
        Damage("Manifest_that_says_nothing", folder => Rewrite(folder, _ => "{}"), "manifest.json' has format 0"),
        Damage("Manifest_of_another_format", folder => Rewrite(folder, text => text.Replace("\"format\": 1,", "\"format\": 99,")), "has format 99; this program reads format 1"),
        Damage("Manifest_without_a_position", folder => Rewrite(folder, text => text.Replace("\"position\"", "\"positron\"")), "manifest.json' is incomplete"),
    ];

    [SetUp]
    public void SaveThree()
    {
        _checkpoints = new CheckpointFolder(Path.Combine(Folder, Guid.NewGuid().ToString("N")));
        SaveSteps(3, keep: 0);
    }

    [TestCaseSource(nameof(Damages))]
    public void Damage_is_refused_by_name_and_the_checkpoint_before_is_taken(Action<string> damage, string message)
    {
        damage(_checkpoints.Of(3));

        Assert.That(() => CheckpointFolder.Verify(_checkpoints.Of(3)), Throws.TypeOf<CheckpointException>().With.Message.Contains(message));
        List<string> warnings = [];
        Assert.That(_checkpoints.NewestVerified(warnings.Add), Is.EqualTo(_checkpoints.Of(2)));
        Assert.That(warnings, Has.One.Items.And.One.Contains("step_00000003").And.One.Contains(message));
    }

    [Test]
    public void No_whole_checkpoint_at_all_is_an_error_and_no_fresh_start()
    {
        foreach (var step in _checkpoints.Steps())
        {
            Change(_checkpoints.Of(step), Shard, FlipOneBit);
        }

        List<string> warnings = [];
        Assert.That(() => _checkpoints.NewestVerified(warnings.Add), Throws.TypeOf<CheckpointException>().With.Message.Contains("none of the 3 checkpoints"));
        Assert.That(warnings, Has.Count.EqualTo(3));
    }

    [Test]
    public void Checkpoint_asked_for_by_name_is_not_replaced_by_another()
    {
        Change(_checkpoints.Of(2), Shard, FlipOneBit);

        Assert.That(() => ResumeSource.Find(_checkpoints.Of(2), Assert.Fail), Throws.TypeOf<CheckpointException>().With.Message.Contains(Shard));
        Assert.That(ResumeSource.Find(_checkpoints.Of(1), Assert.Fail), Is.EqualTo(_checkpoints.Of(1)));
        Assert.That(ResumeSource.Find(_checkpoints.Location, Assert.Fail), Is.EqualTo(_checkpoints.Of(3)));
    }

    [Test]
    public void Leftovers_of_killed_saves_are_passed_over_and_removed_by_the_next()
    {
        foreach (var step in new[] { 4, 99 })
        {
            Directory.CreateDirectory(_checkpoints.PartialOf(step));
            File.WriteAllText(Path.Combine(_checkpoints.PartialOf(step), Shard), "half a shard");
        }

        Assert.That(_checkpoints.Steps(), Is.EqualTo([3, 2, 1]));
        Assert.That(_checkpoints.NewestVerified(Assert.Fail), Is.EqualTo(_checkpoints.Of(3)));

        SaveSteps(4, keep: 0);
        Assert.That(
            Directory.GetFileSystemEntries(_checkpoints.Location).Select(Path.GetFileName),
            Is.EquivalentTo(["latest", "step_00000001", "step_00000002", "step_00000003", "step_00000004"]));
        Assert.That(File.ReadAllText(Path.Combine(_checkpoints.Location, "latest")), Is.EqualTo("step_00000004\n"));
    }

    [Test]
    public void Only_the_newest_are_kept()
    {
        SaveSteps(5, keep: 2);
        Assert.That(_checkpoints.Steps(), Is.EqualTo([5, 4]));
    }

    [Test]
    public void Course_that_was_left_stays_until_the_new_one_has_come_as_far()
    {
        foreach (var (step, left) in new[] { (1L, new[] { "step_00000002.replaced", "step_00000003.replaced" }), (2, ["step_00000003.replaced"]), (5, []) })
        {
            _checkpoints.Begin(step);
            _checkpoints.Complete(step, keep: 0);

            Assert.That(Directory.GetDirectories(_checkpoints.Location, "*.replaced").Select(Path.GetFileName), Is.EquivalentTo(left), $"step {step}");
            Assert.That(_checkpoints.Steps()[0], Is.EqualTo(step));
        }
    }

    private static TestCaseData Damage(string name, Action<string> damage, string message) =>
        new TestCaseData(damage, message).SetName(name + "_is_refused_by_name_and_the_checkpoint_before_is_taken");

    private static void Change(string checkpoint, string file, Func<byte[], byte[]> change)
    {
        var path = Path.Combine(checkpoint, file);
        File.WriteAllBytes(path, change(File.ReadAllBytes(path)));
    }

    // As another program would have written it, with its sum.
    private static void Rewrite(string checkpoint, Func<string, string> rewrite)
    {
        var path = Path.Combine(checkpoint, CheckpointManifest.FileName);
        var text = File.ReadAllText(path);
        var changed = rewrite(text);
        Assert.That(changed, Is.Not.EqualTo(text));
        File.WriteAllText(path, changed);
        var sum = Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(path)));
        File.WriteAllText(Path.Combine(checkpoint, CheckpointManifest.SumFileName), $"{sum}  {CheckpointManifest.FileName}\n");
    }

    private static byte[] FlipOneBit(byte[] bytes)
    {
        var place = Random.Shared.Next(bytes.Length);
        bytes[place] ^= (byte)(1 << Random.Shared.Next(8));
        return bytes;
    }

    private void SaveSteps(int steps, int keep)
    {
        using var mesh = TinyRun.Alone();
        var config = TinyRun.Config(Folder);
        using var session = TinyRun.Session(config with { Train = config.Train with { KeepCheckpoints = keep } }, mesh, _checkpoints.Location);
        while (session.Step < steps)
        {
            session.Advance(stop: false);
            session.Save();
        }
    }
}

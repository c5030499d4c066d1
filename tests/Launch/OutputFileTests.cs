using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>Files that a command line names as a command's output.</summary>
internal sealed class OutputFileTests : LaunchTests
{
    [Test]
    public void Full_disk_leaves_the_file_that_was_there()
    {
        using var disk = SmallDisk.Mount(Launched.Scratch, "1m");
        var file = Path.Combine(disk.Folder, "schedule.json");
        File.WriteAllText(file, "what was there");
        disk.Fill();

        var code = Launched.StartBare("done", "schedule", "refine", "--run", FinishedRun(), "-o", file).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(Launched.Error, Does.Contain($"{file} cannot be written: No space left on device").And.Contain("  try "));
        Assert.That(Launched.Output, Is.Empty);
        AssertUntouched(file);
    }

    [TestCase("--output", "plan", "--scale", "1..2", "--device", "h100.yaml")]
    [TestCase("--save-device", "plan")]
    [TestCase("--write", "slurm", "render")]
    public void Full_disk_leaves_the_file_of_other_commands_too(string option, params string[] command)
    {
        using var disk = SmallDisk.Mount(Launched.Scratch, "1m");
        File.Copy(Path.Combine(Moe.Launch.Runs.Repository.Find(AppContext.BaseDirectory)!, "configs", "devices", "h100.yaml"), Path.Combine(Launched.Scratch, "h100.yaml"));
        var file = Path.Combine(disk.Folder, "out");
        File.WriteAllText(file, "what was there");
        disk.Fill();

        var code = Launched.StartTrainer([.. command, "--config", Launched.ConfigFile, option, file]).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight), Launched.Error);
        Assert.That(Launched.Error, Does.Contain($"{file} cannot be written: No space left on device"));
        AssertUntouched(file);
    }

    [Test]
    public void Output_through_a_link_or_a_pipe_leaves_both_in_place()
    {
        var (link, file) = (Path.Combine(Launched.Scratch, "link.json"), Path.Combine(Launched.Scratch, "file.json"));
        File.CreateSymbolicLink(link, file);

        Assert.That(Launched.StartBare("done", "schedule", "refine", "--run", FinishedRun(), "-o", link).End(), Is.Zero, Launched.Error);
        Assert.That(new FileInfo(link).LinkTarget, Is.EqualTo(file));
        Assert.That(File.ReadAllText(file), Does.StartWith("{"));

        Assert.That(Launched.StartShellTrainer("mkfifo pipe; $LAUNCH schedule refine --run finished -o pipe > chart & cat pipe; wait $!").End(), Is.Zero, Launched.Error);
        Assert.That(Launched.Output, Is.EqualTo(File.ReadAllText(file)));
    }

    private static void AssertUntouched(string file)
    {
        Assert.That(File.ReadAllText(file), Is.EqualTo("what was there"));
        Assert.That(Directory.GetFiles(Path.GetDirectoryName(file)!).Select(Path.GetFileName), Is.EquivalentTo([Path.GetFileName(file), "full"]), "nothing half written beside it");
    }

    private string FinishedRun()
    {
        var folder = new RunFolder(Directory.CreateDirectory(Path.Combine(Path.GetDirectoryName(Launched.ConfigFile)!, "finished")).FullName);
        File.WriteAllText(folder.ConfigFile, "train: {steps: 4}\nschedule: {warmup_steps: 0}\ndata: {domains: [{name: text, path: text.txt}]}\n");
        File.WriteAllLines(folder.MetricsFile, Enumerable.Range(1, 4).Select(step => $"{{\"step\":{step},\"train/grad_norm\":{5 - step}}}"));
        return folder.Path;
    }
}

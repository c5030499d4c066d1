using Moe.Training;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary><c>launch schedule</c>, and the schedule's file on its way into a run folder.</summary>
internal sealed class ScheduleCommandTests : LaunchTests
{
    [Test]
    public void Show_prints_the_rates_at_both_ends_and_the_course()
    {
        var code = Launched.StartBare("done", "schedule", "show", "--config", Launched.ConfigFile, "--set", "schedule={name: wsd, warmup_steps: 9, final_fraction: 0}").End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Output, Does.StartWith("step=1 learning_rate=0.0001\nstep=10 learning_rate=0.001\n").And.Contain("step=500 learning_rate=0\n"));
        Assert.That(Launched.Output.TrimEnd().Split('\n')[^1], Does.Match("^▂▇?█{48,}▇+[▂-▆]+▁$"));
    }

    [Test]
    public void Refined_schedule_goes_from_a_finished_run_into_the_folder_of_the_next()
    {
        var finished = FinishedRun(end: 4);
        var code = Launched.StartBare("done", "schedule", "refine", "--run", finished + "/", "-o", "next.json", "--smooth", "0").End();
        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Output, Does.Contain("schedule=next.json steps=4"));
        Assert.That(Launched.Output.Split('\n')[0], Has.Length.EqualTo(64).And.EndsWith("▁"));

        var file = Path.Combine(Path.GetDirectoryName(Launched.ConfigFile)!, "next.json");
        Assert.That(ScheduleFile.Read(file).Source, Is.EqualTo("finished"));
        Assert.That(Launched.Start("done", "--backend", "gloo", "--set", "schedule.name=refined", "--set", "schedule.file=next.json").End(), Is.Zero, Launched.Error);
        File.Delete(file);
        var kept = ConfigReader.Read(Launched.Folder.ConfigFile, []).Config.Schedule;
        Assert.That(kept, Is.EqualTo(new ScheduleConfig { Name = ScheduleName.Refined, File = Launched.Folder.ScheduleFile }));
        Assert.That(File.Exists(kept.File));

        Assert.That(Launched.StartBare("done", "schedule", "show", "--config", Launched.Folder.ConfigFile).End(), Is.Zero, "the copy is enough");
    }

    [Test]
    public void Unfinished_run_is_refused_with_one_error()
    {
        var code = Launched.StartBare("done", "schedule", "refine", "--run", FinishedRun(end: 3)).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("is not finished: its gradient norms end at step 3 of 4").And.Not.Contain("   at "));
        Assert.That(Launched.Output, Is.Empty);
    }

    [Test]
    public void Missing_schedule_file_is_told_before_any_rank_starts()
    {
        var code = Launched.Start("done", "--backend", "gloo", "--set", "schedule={name: refined, file: nowhere.json}").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("nowhere.json").And.Contain("launch schedule refine --run DIR writes one"));
        Assert.That(Directory.Exists(Launched.Folder.Path), Is.False);
    }

    private string FinishedRun(int end)
    {
        var folder = new RunFolder(Directory.CreateDirectory(Path.Combine(Path.GetDirectoryName(Launched.ConfigFile)!, "finished")).FullName);
        File.WriteAllText(folder.ConfigFile, "train: {steps: 4}\nschedule: {warmup_steps: 0}\ndata: {domains: [{name: text, path: text.txt}]}\n");
        File.WriteAllLines(folder.MetricsFile, Enumerable.Range(1, end).Select(step => $"{{\"step\":{step},\"train/grad_norm\":{5 - step}}}"));
        return folder.Path;
    }
}

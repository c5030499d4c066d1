using System.Globalization;
using Moe.Tests.Configuration;
using Moe.Training;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>From a run folder to the schedule of the next run.</summary>
internal sealed class ScheduleRefinementTests
{
    private ConfigurationFolder _folder = null!;

    private RunFolder Run => new(_folder.Path);

    [SetUp]
    public void CreateFolder() => _folder = new ConfigurationFolder();

    [TearDown]
    public void DeleteFolder() => _folder.Dispose();

    [Test]
    public void Logged_norms_are_joined_by_straight_lines()
    {
        Write("sgd", 9, Row(1, 2), "{\"step\":3,\"eval/loss\":2.5}", Row(5, 1), "{\"step\":7,\"train/grad_norm\":null}", Row(9, 3));

        var file = ScheduleRefinement.Of(Run, smooth: 0);

        double[] norms = [2, 1.75, 1.5, 1.25, 1, 1.5, 2, 2.5, 3];
        Assert.That(file.Rates, Is.EqualTo(Moe.Optimizers.RefinedCurve.Of(norms, 2, 0).Shares));
        Assert.That((file.Steps, file.Exponent), Is.EqualTo((9, 2)));
    }

    [Test]
    public void Adam_like_optimizers_weigh_by_the_first_power()
    {
        Write("adamw", 4, Row(1, 2), Row(2, 1), Row(3, 1), Row(4, 2));

        Assert.That(ScheduleRefinement.Of(Run, smooth: 0).Rates, Is.EqualTo(new[] { 5.0 / 6, 1, 1.0 / 3, 0 }).Within(1e-15));
    }

    [Test]
    public void Long_run_becomes_a_small_file()
    {
        Write("sgd", 1_000_000, Row(1, 2), Row(1_000_000, 1));

        Assert.That(ScheduleRefinement.Of(Run, smooth: 0.1).Rates, Has.Count.EqualTo(10_000));
    }

    [Test]
    public void File_reads_back_as_it_was_written()
    {
        Write("sgd", 4, Row(1, 2), Row(4, 3));
        var file = ScheduleRefinement.Of(Run, smooth: 0.5);
        var path = Path.Combine(_folder.Path, "refined.json");
        File.WriteAllText(path, file.ToJson());

        Assert.That(ScheduleFile.Read(path).Rates, Is.EqualTo(file.Rates));
        var config = _folder.Read($"schedule: {{name: refined, file: refined.json}}\ntrain: {{steps: 4}}{ConfigurationFolder.Domains}").Config;
        Assert.That(config.Schedule.File, Is.EqualTo(path));
        Assert.That(Enumerable.Range(0, 4).Select(step => ModelAssembly.Schedule(config).At(step)), Is.EqualTo(file.Rates.Select(rate => 1e-3 * rate)));
    }

    [Test]
    public void Unfinished_run_is_refused_with_both_steps()
    {
        Write("sgd", 9, Row(1, 2), Row(5, 1));
        Refused("is not finished: its gradient norms end at step 5 of 9");
    }

    [Test]
    public void Run_of_one_step_is_refused_as_too_short()
    {
        Write("sgd", 1, Row(1, 2));
        Refused("has 1 gradient norm(s) of its 1 step(s); a schedule takes at least 2");
    }

    [TestCase("{\"step\":2,", "metrics.jsonl:2: is no row of metrics")]
    [TestCase("{\"train/grad_norm\":1}", "metrics.jsonl:2: is no row of metrics")]
    [TestCase("{\"step\":2,\"train/grad_norm\":0}", "a gradient norm of 0 at step 2")]
    [TestCase("{\"step\":1,\"train/grad_norm\":1}", "at step 1, after step 1")]
    public void Broken_metrics_are_refused_at_their_line(string row, string message)
    {
        Write("sgd", 3, Row(1, 2), row, Row(3, 1));
        Refused(message);
    }

    [Test]
    public void Folder_that_is_no_run_is_refused() => Refused("is no run folder: it lacks config.yaml");

    [TestCase("", "cannot be used")]
    [TestCase("[]", "cannot be used")]
    [TestCase("{}", "it has no rates")]
    [TestCase("{\"rates\":[1]}", "a refined schedule has at least 2 rates, not 1")]
    [TestCase("{\"rates\":[1,-1]}", "rate 1 is -1, outside of 0 to 1")]
    [TestCase("{\"rates\":[0.2,0.4]}", "the largest rate is 0.4, not 1")]
    [TestCase("{\"rates\":[1,1e999]}", "cannot be used")]
    public void Broken_schedule_file_is_refused(string text, string message)
    {
        var path = _folder.Write("broken.json", text);
        Assert.That(() => ScheduleFile.Read(path), Throws.TypeOf<TrainingException>().With.Message.Contains(path).And.Message.Contains(message));
    }

    [TestCase("schedule.name=refined", "schedule.name refined needs schedule.file; launch schedule refine --run DIR writes one")]
    [TestCase("schedule={name: wsd, warmup_steps: 400}", "schedule.warmup_steps 400 and the fall over the last 100 steps leave no stable part of train.steps 500")]
    [TestCase("schedule.decay_fraction=0", "schedule.decay_fraction is 0; it takes a number above 0 to 1")]
    [TestCase("schedule.decay_shape=sqrt", "it takes one of linear, 1-sqrt")]
    [TestCase("schedule.name=linaer", "schedule.name is linaer (did you mean linear?)")]
    public void Schedule_that_cannot_be_is_refused(string option, string message) =>
        Assert.That(_folder.Refuse(ConfigurationFolder.Domains, option).Select(fault => fault.ToString()), Has.Some.Contains(message));

    [TestCase("linear", 0)]
    [TestCase("1-sqrt", 0)]
    public void Configured_wsd_falls_over_its_fraction(string shape, double final)
    {
        var config = _folder.Read(
            ConfigurationFolder.Domains, $"schedule={{name: wsd, warmup_steps: 10, decay_fraction: 0.25, decay_shape: {shape}, final_fraction: {final}}}", "train.steps=100").Config;
        var schedule = ModelAssembly.Schedule(config);

        Assert.That(Enumerable.Range(10, 65).Select(step => schedule.At(step)), Is.All.EqualTo(1e-3));
        Assert.That(schedule.At(75), Is.LessThan(1e-3));
        Assert.That(schedule.At(99), Is.EqualTo(1e-3 * final));
    }

    private static string Row(long step, double norm) =>
        string.Create(CultureInfo.InvariantCulture, $"{{\"step\":{step},\"train/loss\":1,\"train/grad_norm\":{norm}}}");

    private void Write(string optimizer, int steps, params string[] rows)
    {
        var config = _folder.Read($"optimizer: {{name: {optimizer}}}\ntrain: {{steps: {steps}}}\nschedule: {{warmup_steps: 0}}{ConfigurationFolder.Domains}").Config;
        File.WriteAllText(Run.ConfigFile, ConfigYaml.Write(config));
        File.WriteAllLines(Run.MetricsFile, rows);
    }

    private void Refused(string message) =>
        Assert.That(() => ScheduleRefinement.Of(Run, 0.1), Throws.TypeOf<TrainingException>().With.Message.Contains(message));
}

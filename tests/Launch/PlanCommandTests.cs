using System.Text.Json;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary><c>launch plan</c> as a user calls it.</summary>
internal sealed class PlanCommandTests
{
    private static readonly string Repository = Moe.Launch.Runs.Repository.Find(AppContext.BaseDirectory)!;
    private LaunchedRun _run = null!;

    [SetUp]
    public void CreateRun() => _run = new LaunchedRun();

    [TearDown]
    public void DisposeRun() => _run.Dispose();

    [Test]
    public void Plan_that_fits_names_memory_traffic_speed_and_bottleneck()
    {
        var code = Plan("--nodes", "2", "--procs-per-node", "2", "--device", H100);

        Assert.That(code, Is.Zero, _run.Error);
        Assert.That(_run.Output, Does.Contain("4 ranks (2 nodes x 2), replica 1 x expert 4")
            .And.Contain("weights").And.Contain("optimizer adamw").And.Contain("tokens forward (4)").And.Contain("bottleneck: ").And.Match("tokens/s [0-9]+"));
    }

    [Test]
    public void Json_is_one_object_whose_parts_make_up_the_step()
    {
        Assert.That(Plan("--nodes", "4", "--device", H100, "--ui", "json"), Is.Zero, _run.Error);
        var plan = JsonDocument.Parse(_run.Output).RootElement;
        var parts = plan.GetProperty("work").EnumerateArray().Concat(plan.GetProperty("collectives").EnumerateArray()).Sum(item => item.GetProperty("seconds").GetDouble());

        Assert.That(_run.Output.Trim().Split('\n'), Has.Length.EqualTo(1));
        Assert.That(plan.GetProperty("step_s").GetDouble(), Is.EqualTo(parts + plan.GetProperty("waiting_s").GetDouble()).Within(1e-9));
    }

    [Test]
    public void Plan_that_does_not_fit_leaves_with_2_and_the_meshes_that_do()
    {
        var code = _run.StartTrainer("plan", "--config", Path.Combine(Repository, "configs/bench/olmoe-8l.yaml"), "--device", H100, "--set", "train.micro_batch=64").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(_run.Error, Does.Match("the fullest rank needs [0-9.]+ GiB, h100 has 78").And.Contain("--set train.micro_batch="));
        Assert.That(_run.Error, Does.Not.Contain("   at "));
    }

    [Test]
    public void Plan_of_this_machine_measures_it_and_can_be_repeated_from_the_file()
    {
        Assert.That(Plan("--nodes", "2", "--save-device", "here.yaml", "--ui", "json"), Is.Zero, _run.Error);
        var measured = JsonDocument.Parse(_run.Output).RootElement.GetProperty("step_s").GetDouble();
        Assert.That(Plan("--nodes", "2", "--device", "here.yaml", "--ui", "json"), Is.Zero, _run.Error);

        Assert.That(JsonDocument.Parse(_run.Output).RootElement.GetProperty("step_s").GetDouble(), Is.EqualTo(measured).Within(1e-9).And.GreaterThan(0));
    }

    [Test]
    public void Curve_is_printed_and_drawn()
    {
        Assert.That(Plan("--device", H100, "--procs-per-node", "8", "--scale", "1..64", "-o", "curve.svg"), Is.Zero, _run.Error);

        Assert.That(_run.Output.Trim().Split('\n'), Has.Length.EqualTo(14).And.Some.StartsWith("weak ranks=64 tokens_per_s="));
        Assert.That(File.ReadAllText(Path.Combine(Path.GetDirectoryName(_run.ConfigFile)!, "curve.svg")), Does.StartWith("<svg").And.Contain("a prediction"));
    }

    [TestCase("there is no device 'h900'", "--device", "h900")]
    [TestCase("--scale takes FIRST..LAST", "--device", "h100", "--scale", "8")]
    [TestCase("doesn't divide the 3 ranks", "--device", "h100", "--nodes", "3", "--set", "parallel.expert_parallel=2")]
    [TestCase("there is no --scale", "--device", "h100", "-o", "curve.svg")]
    [TestCase("is read from a file", "--device", "h100", "--save-device", "x.yaml")]
    public void Mistake_is_told_in_one_message(string message, params string[] arguments)
    {
        Assert.That(Plan(arguments), Is.EqualTo(ExitCodes.Usage));
        Assert.That(_run.Error, Does.Contain(message).And.Not.Contain("   at "));
        Assert.That(_run.Output, Is.Empty);
    }

    private static string H100 => Path.Combine(Repository, "configs", "devices", "h100.yaml");

    private int Plan(params string[] arguments) => _run.StartTrainer(["plan", "--config", _run.ConfigFile, .. arguments]).End();
}

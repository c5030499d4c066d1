using System.Text.Json;
using Moe.Launch.Terminal;
using Moe.Training.Configuration;
using Moe.Training.Hosting;
using Moe.Training.Planning;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary><c>launch plan</c> as a user calls it.</summary>
internal sealed class PlanCommandTests : LaunchTests
{
    private static readonly string Repository = Moe.Launch.Runs.Repository.Find(AppContext.BaseDirectory)!;
    [Test]
    public void Plan_that_fits_names_memory_traffic_speed_and_bottleneck()
    {
        var code = Plan("--nodes", "2", "--procs-per-node", "2", "--device", H100);

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Output, Does.Contain("4 ranks (2 nodes x 2), replica 1 x expert 4")
            .And.Contain("weights").And.Contain("optimizer adamw").And.Contain("tokens forward (4)").And.Contain("bottleneck: ").And.Match("tokens/s [0-9]+"));
    }

    [Test]
    public void One_rank_is_called_one()
    {
        Assert.That(Plan("--device", H100), Is.Zero, Launched.Error);
        Assert.That(Launched.Output, Does.Contain("; 1 rank (1 node x 1), "));
    }

    [Test]
    public void Name_longer_than_the_others_moves_its_whole_column()
    {
        var plan = StepPlan.Of(Config, DeviceFile.Read(H100), nodes: 1, perNode: 2);
        plan = plan with { Work = [.. plan.Work, plan.Work[0] with { Kind = new string('x', 60) }] };
        using var output = new StringWriter();

        PlanText.Write(output, plan, plan.Choices(load: 1), [plan]);

        foreach (var table in output.ToString().Split("\n\n").Where(part => part.StartsWith("work", StringComparison.Ordinal) || part.StartsWith("other", StringComparison.Ordinal)))
        {
            Assert.That(table.TrimEnd().Split('\n').Select(line => line.Length).Distinct().Count(), Is.EqualTo(1), table);
        }
    }

    [Test]
    public void Json_is_one_object_whose_parts_make_up_the_step()
    {
        Assert.That(Plan("--nodes", "4", "--device", H100, "--ui", "json"), Is.Zero, Launched.Error);
        var plan = JsonDocument.Parse(Launched.Output).RootElement;
        var parts = plan.GetProperty("work").EnumerateArray().Concat(plan.GetProperty("collectives").EnumerateArray()).Sum(item => item.GetProperty("seconds").GetDouble());

        Assert.That(Launched.Output.Trim().Split('\n'), Has.Length.EqualTo(1));
        Assert.That(plan.GetProperty("step_s").GetDouble(), Is.EqualTo(parts + plan.GetProperty("waiting_s").GetDouble()).Within(1e-9));
    }

    [Test]
    public void Json_has_the_bytes_that_make_up_the_peak()
    {
        Assert.That(Plan("--nodes", "4", "--device", H100, "--ui", "json"), Is.Zero, Launched.Error);
        var plan = JsonDocument.Parse(Launched.Output).RootElement;
        var bytes = plan.GetProperty("memory_bytes").EnumerateObject().ToDictionary(item => item.Name, item => item.Value.GetInt64());
        var late = bytes["late gradients"];
        var held = bytes.Where(item => item.Key is "process" or "weights" or "gradients" || item.Key.StartsWith("optimizer", StringComparison.Ordinal)).Sum(item => item.Value) - late;
        var passing = new[] { bytes["end of forward"], bytes["fullest of backward"], late + Math.Max(bytes["communication"], bytes["update"]) }.Max();

        Assert.That(plan.GetProperty("peak_bytes").GetInt64(), Is.EqualTo(held + passing));
    }

    [Test]
    public void Plan_that_does_not_fit_leaves_with_2_and_the_meshes_that_do([Values] bool inBackward)
    {
        var code = Launched.StartTrainer("plan", "--config", Path.Combine(Repository, "configs/bench/olmoe-8l.yaml"), "--device", H100, "--set", "train.micro_batch=64", "--set", $"optimizer.experts_in_backward={(inBackward ? "true" : "false")}").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(Launched.Error, Does.Match("the fullest rank needs [0-9.]+ GiB, h100 has 78")
            .And.Contain(inBackward ? "--set optimizer.experts_in_backward=false, for several micro-batches a step" : "--set train.micro_batch="));
        Assert.That(Launched.Error, Does.Not.Contain("   at "));
    }

    [Test]
    public void Plan_of_this_machine_measures_it_and_can_be_repeated_from_the_file()
    {
        Assert.That(Plan("--nodes", "2", "--save-device", "here.yaml", "--ui", "json"), Is.Zero, Launched.Error);
        var measured = JsonDocument.Parse(Launched.Output).RootElement.GetProperty("step_s").GetDouble();
        Assert.That(Plan("--nodes", "2", "--device", "here.yaml", "--ui", "json"), Is.Zero, Launched.Error);

        Assert.That(JsonDocument.Parse(Launched.Output).RootElement.GetProperty("step_s").GetDouble(), Is.EqualTo(measured).Within(1e-9).And.GreaterThan(0));
    }

    [Test]
    public void Curve_is_printed_and_drawn()
    {
        Assert.That(Plan("--device", H100, "--procs-per-node", "8", "--scale", "1..64", "-o", "curve.svg"), Is.Zero, Launched.Error);

        Assert.That(Launched.Output.Trim().Split('\n'), Has.Length.EqualTo(14).And.Some.StartsWith("weak ranks=64 tokens_per_s="));
        Assert.That(File.ReadAllText(Path.Combine(Path.GetDirectoryName(Launched.ConfigFile)!, "curve.svg")), Does.StartWith("<svg").And.Contain("a prediction"));
    }

    [TestCase("model.layers=1024"), TestCase("model.moe.experts=16384"), TestCase("model={layers: 1024, moe: {experts: 128, top_k: 128}}")]
    [TestCase("model={width: 65536, heads: 512, vocabulary: 4194304, moe: {experts: 64, top_k: 64, expert_width: 1048576}}")]
    [TestCase("train={micro_batch: 8192, accumulation: 1024}"), TestCase("model.sequence_length=1048576"), TestCase("train.memory_budget=1GiB", "model.layers=512")]
    public void Plan_of_the_largest_that_is_allowed_takes_seconds_and_no_number_wraps(params string[] settings)
    {
        var time = System.Diagnostics.Stopwatch.StartNew();
        var code = Plan(["--device", H100, "--ui", "json", .. settings.SelectMany(setting => (string[])["--set", setting])]);

        Assert.That(code, Is.Zero.Or.EqualTo(ExitCodes.Preflight), Launched.Error);
        Assert.That(time.Elapsed.TotalSeconds, Is.LessThan(45), "with all other tests on the same cores");
        Assert.That(Numbers(JsonDocument.Parse(Launched.Output).RootElement), Is.All.GreaterThanOrEqualTo(0));
    }

    [Test]
    public void Plan_of_the_largest_on_a_million_ranks_has_no_number_that_wraps()
    {
        var config = new RunConfig
        {
            Model = new() { Layers = 128, Width = 65536, Heads = 512, Vocabulary = 4194304, Moe = new() { Experts = 1024, TopK = 64, ExpertWidth = 16384 } },
            Train = new() { MicroBatch = 512, Accumulation = 8192, Precision = Precision.Float64 },
            Parallel = new() { ExpertParallel = 1024 },
        };
        ConfigRules.Validate(config with { Data = new() { Domains = [new() { Name = "text", Path = "text.txt" }] } });
        var plan = StepPlan.Of(config, DeviceFile.Read(H100), 131072, 8);

        var items = plan.Memory.Persistent.Concat(plan.Memory.Activations).Select(item => (double)item.Bytes).Append(plan.Memory.Communication).Append(plan.Memory.Update).Append(plan.Memory.Workspace);
        Assert.That(items, Is.All.GreaterThanOrEqualTo(0));
        Assert.That(plan.Memory.Peak, Is.GreaterThan(plan.Memory.Of("weights")));
        Assert.That((double)plan.TokensPerStep, Is.EqualTo(512.0 * 8192 * 128 * (1 << 20)));
        Assert.That(plan.Parameters.Total, Is.EqualTo(4.2e14).Within(10).Percent);
    }

    [TestCase("model.vocabulary=16777216", "model.width=16384")]
    [TestCase("model.moe.expert_width=1048576", "model.width=1024")]
    public void Machine_too_small_to_be_measured_with_a_model_is_told_in_one_message(params string[] settings)
    {
        Assert.That(Plan([.. settings.SelectMany(setting => (string[])["--set", setting])]), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("this machine cannot be measured with the model's embedding and experts, which would take ").And.Contain("--device h100"));
    }

    private static IEnumerable<double> Numbers(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Object => element.EnumerateObject().SelectMany(property => Numbers(property.Value)),
        JsonValueKind.Array => element.EnumerateArray().SelectMany(Numbers),
        JsonValueKind.Number => [element.GetDouble()],
        _ => [],
    };

    [TestCase("there is no device 'h900'", "--device", "h900")]
    [TestCase("--scale takes FIRST..LAST", "--device", "h100", "--scale", "8")]
    [TestCase("doesn't divide the 3 ranks", "--device", "h100", "--nodes", "3", "--set", "parallel.expert_parallel=2")]
    [TestCase("there is no --scale", "--device", "h100", "-o", "curve.svg")]
    [TestCase("is read from a file", "--device", "h100", "--save-device", "x.yaml")]
    public void Mistake_is_told_in_one_message(string message, params string[] arguments)
    {
        Assert.That(Plan(arguments), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain(message).And.Not.Contain("   at "));
        Assert.That(Launched.Output, Is.Empty);
    }

    private static RunConfig Config => new() { Data = new() { Domains = [new() { Name = "text", Path = "text.txt" }] } };

    private static string H100 => Path.Combine(Repository, "configs", "devices", "h100.yaml");

    private int Plan(params string[] arguments) => Launched.StartTrainer(["plan", "--config", Launched.ConfigFile, .. arguments]).End();
}

using System.Text.Json;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary><c>launch bench</c> as a user calls it, kernel by kernel.</summary>
internal sealed class BenchCommandTests : LaunchTests
{
    private static readonly string[] Fields =
    [
        "name", "shape", "direction", "ms", "ms_p10", "ms_p90", "bytes", "operations", "gb_per_s", "tflops", "ceiling", "ceiling_ms", "of_ceiling_pct", "calls_per_step",
    ];

    [TestCase("dispatch", 2)]
    [TestCase("head", 1)]
    public void Json_is_one_object_with_a_row_a_kernel(string family, int nodes)
    {
        var code = Bench(family, "--nodes", $"{nodes}", "--ui", "json", "--warmup", "1", "--repeats", "2");

        Assert.That(code, Is.EqualTo(ExitCodes.Done), Launched.Error);
        var report = JsonDocument.Parse(Launched.Output).RootElement;
        var kernels = report.GetProperty("kernels").EnumerateArray().ToList();
        Assert.That((report.GetProperty("bench").GetString(), report.GetProperty("ranks").GetInt32()), Is.EqualTo((family, nodes)));
        Assert.That(kernels.Select(kernel => kernel.EnumerateObject().Select(field => field.Name)), Is.All.EqualTo(Fields));
        Assert.That(kernels.Select(kernel => kernel.GetProperty("ms").GetDouble()), Is.All.GreaterThan(0));
        Assert.That(report.GetProperty("ms_per_step").GetDouble(), Is.EqualTo(kernels.Sum(kernel => Number(kernel, "ms") * Number(kernel, "calls_per_step"))).Within(1e-9));
        foreach (var kernel in kernels)
        {
            Assert.That(Number(kernel, "of_ceiling_pct"), Is.EqualTo(100 * Number(kernel, "ceiling_ms") / Number(kernel, "ms")).Within(1e-9));
        }
    }

    [Test]
    public void Unknown_benchmark_is_answered_with_all_that_there_are()
    {
        Assert.That(Launched.StartBare("done", "bench", "gather").End(), Is.EqualTo(ExitCodes.Usage));

        Assert.That(Launched.Error, Does.Contain("'gather' is no command of launch bench; there are step, dispatch, experts, attention, head, optimizer"));
        Assert.That(Launched.Error, Does.Contain("launch bench --help").And.Not.Contain("Required command"));
    }

    [Test]
    public void Dispatch_of_a_dense_model_is_refused_before_any_rank_starts()
    {
        Assert.That(Bench("dispatch", "--set", "model.dense_layers=4"), Is.EqualTo(ExitCodes.Usage));

        Assert.That(Launched.Error, Does.Contain("all 4 layers are dense").And.Contain("bench experts").And.Not.Contain("   at "));
        Assert.That(Directory.Exists(Launched.Folder.Path), Is.False);
    }

    [TestCase("all_gather")]
    [TestCase("two_level")]
    public void Dispatch_by_another_way_than_is_timed_is_refused_before_any_rank_starts(string dispatcher)
    {
        Assert.That(Bench("dispatch", "--nodes", "2", "--set", $"parallel.dispatcher={dispatcher}"), Is.EqualTo(ExitCodes.Usage));

        Assert.That(Launched.Error, Does.Contain($"has none of {dispatcher}").And.Contain("--set parallel.dispatcher=all_to_all").And.Not.Contain("   at "));
        Assert.That(Directory.Exists(Launched.Folder.Path), Is.False);
    }

    private static double Number(JsonElement kernel, string name) => kernel.GetProperty(name).GetDouble();

    private int Bench(string family, params string[] more)
    {
        string[] small = ["model.width=16", "model.heads=2", "model.sequence_length=16", "model.moe.expert_width=12", "train.micro_batch=2"];
        return Launched.StartTrainer(
            ["bench", family, "--config", Launched.ConfigFile, "--run-dir", Launched.Folder.Path, .. small.SelectMany(setting => (string[])["--set", setting]), .. more]).End();
    }
}

using System.Text.Json;
using Moe.Tests.Launch;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Profiling;

/// <summary>A profile as a user has it: the launch command with its own ranks.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class LaunchedProfileTests : LaunchTests
{
    private const string Config = """
        model:
          layers: 2
          width: 16
          heads: 2
          sequence_length: 16
          moe: {experts: 8, top_k: 2, expert_width: 12}
        schedule: {warmup_steps: 2}
        data:
          domains:
            - {name: text, path: text.txt}
        train: {steps: 6, micro_batch: 2, log_every: 1, eval_every: 3, eval_sequences: 8, checkpoint_every: 0}
        """;

    [SetUp]
    public void Prepare()
    {
        File.WriteAllText(Launched.ConfigFile, Config);
    }

    [Test]
    public void Training_leaves_a_trace_and_a_table_and_says_how_much_of_the_peak_it_uses()
    {
        const double Peak = 0.25; // TFLOP/s a rank
        var code = Train("--ui", "json", "--profile", "trace.json", "--profile-steps", "3-4", "--set", $"train.peak_tflops={Peak}");

        Assert.That(code, Is.EqualTo(ExitCodes.Done), Launched.Error);
        var trace = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Launched.Scratch, "trace.json"))).RootElement.GetProperty("traceEvents");
        Assert.That(trace.EnumerateArray().Select(e => e.GetProperty("pid").GetInt32()).Distinct(), Is.EquivalentTo([0, 1]));
        Assert.That(trace.EnumerateArray().Select(e => e.GetProperty("name").GetString()), Is.SupersetOf(new[] { "step 3", "step 4", "evaluation", "logging" }));
        Assert.That(Directory.GetFiles(Launched.Scratch, "trace.json*"), Has.Length.EqualTo(1));

        var said = Launched.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonDocument.Parse(line).RootElement);
        var table = said.Single(line => line.GetProperty("type").GetString() == "profile").GetProperty("profile");
        Assert.That(table.GetProperty("parts").EnumerateArray().Sum(part => part.GetProperty("ms").GetDouble()), Is.EqualTo(table.GetProperty("step").GetProperty("ms").GetDouble()).Within(1).Percent);
        Assert.That(table.GetProperty("beside")[0].GetProperty("part").GetString(), Is.EqualTo("evaluation"));
        Assert.That(File.ReadAllText(Path.Combine(Launched.Folder.Path, "profile.txt")), Does.StartWith("where a step goes: steps 3-4, 2 ranks;").And.Contain("backward: dispatch"));
        CheckUtilisation(Peak);
    }

    [TestCase("cannot be written", "--profile", "missing/trace.json")]
    [TestCase("the training ends after step 6", "--profile", "t.json", "--profile-steps", "5-7")]
    [TestCase("has no effect without --profile", "--profile-steps", "3-4")]
    [TestCase("but parallel.device is cpu", "--profile", "t.json", "--profile-kernels")]
    public void What_cannot_be_profiled_is_refused_before_any_rank_starts(string because, params string[] options)
    {
        Assert.That(Train(options), Is.EqualTo(ExitCodes.Usage), Launched.Output);
        Assert.That(Launched.Error, Does.Contain(because));
        Assert.That(Directory.Exists(Launched.Folder.Path), Is.False);
        Assert.That(Directory.GetFiles(Launched.Scratch, "t*.json*"), Is.Empty);
    }

    // Six operations for each weight that a token meets, and the causal half of attention; the embedding is looked up.
    private void CheckUtilisation(double peak)
    {
        const int Layer = (4 * 16 * 16) + (2 * 16) + (8 * 16) + (2 * 3 * 12 * 16); // attention, norms, router, two experts
        const int Weights = (2 * Layer) + 16 + (256 * 16); // the last norm, the head
        const double Operations = (6.0 * Weights) + (6.0 * 2 * 16 * 16);
        foreach (var row in File.ReadLines(Launched.Folder.MetricsFile).Select(line => JsonDocument.Parse(line).RootElement).Where(row => row.TryGetProperty("train/loss", out _)))
        {
            var rate = Operations * row.GetProperty("perf/tokens_per_s").GetDouble() / 2 / 1e12;
            Assert.That(row.GetProperty("perf/tflops_per_rank").GetDouble(), Is.EqualTo(rate).Within(1e-6).Percent);
            Assert.That(row.GetProperty("perf/mfu_pct").GetDouble(), Is.EqualTo(100 * rate / peak).Within(1e-6).Percent);
            Assert.That(row.GetProperty("perf/peak_gib").GetDouble(), Is.InRange(0.02, 8));
        }
    }

    private int Train(params string[] options) =>
        Launched.StartTrainer(["--config", Launched.ConfigFile, "--nodes", "2", "--run-dir", Launched.Folder.Path, .. options]).End();
}

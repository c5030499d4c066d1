using System.Globalization;
using System.Text.Json;
using Moe.Tests.Launch;
using Moe.Training;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Training as a user has it: the launch command with its own ranks, from the configuration to the run folder.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class TrainedRunTests
{
    private const string Config = """
        model:
          layers: 2
          width: 16
          heads: 2
          sequence_length: 16
          moe: {experts: 8, top_k: 2, expert_width: 12}
        balance: {scope: global, bias_rate: 0.01}
        optimizer: {learning_rate: 0.01}
        schedule: {warmup_steps: 3}
        data:
          domains:
            - {name: text, path: text.txt}
        train: {steps: 12, micro_batch: 2, log_every: 1, eval_every: 6, eval_sequences: 0, checkpoint_every: 4, keep_checkpoints: 0}
        """;

    private static readonly string[] KeysOfEveryRow =
    [
        "step", "unix_ms", "train/loss", "train/balance_loss", "train/grad_norm", "train/lr", "train/tokens", "perf/tokens_per_s", "perf/step_ms",
        "perf/tflops_per_rank", "perf/mfu_pct", "perf/peak_gib", "perf/all_to_all_ms", "perf/all_to_all_share", "perf/data_ms", "perf/optimizer_ms", "mem/peak_resident_gib", "moe/load_max_over_mean", "moe/dead_experts", "moe/dropped",
    ];

    // Twelve steps on four ranks, once for all tests.
    private LaunchedRun _whole = null!;

    [OneTimeSetUp]
    public void TrainToTheEnd()
    {
        _whole = NewRun();
        var code = Train(_whole, 4);
        Assert.That(code, Is.EqualTo(ExitCodes.Done), _whole.Error);
    }

    [OneTimeTearDown]
    public void Dispose() => _whole.Dispose();

    [Test]
    public void Run_folder_holds_all_that_scripts_rely_on()
    {
        var folder = _whole.Folder;
        var run = _whole.Record;
        Assert.That(run.GetProperty("status").GetString(), Is.EqualTo("done"));
        Assert.That(run.GetProperty("world_size").GetInt32(), Is.EqualTo(4));
        Assert.That(run.GetProperty("mesh").GetString(), Is.EqualTo("replica 1 x expert 4"));
        Assert.That(run.GetProperty("exit_code").GetInt32(), Is.Zero);
        Assert.That(run.GetProperty("id").GetString(), Is.Not.Empty);
        Assert.That(run.GetProperty("end").GetDateTime(), Is.GreaterThan(run.GetProperty("start").GetDateTime()));

        // Embedding and head, two layers of attention, norms, router and eight experts of three matrices; the last norm.
        const int Dense = (2 * 256 * 16) + (2 * ((4 * 16 * 16) + (2 * 16) + (8 * 16))) + 16;
        const int Expert = 3 * 12 * 16;
        Assert.That(run.GetProperty("parameters").GetProperty("total").GetInt64(), Is.EqualTo(Dense + (2 * 8 * Expert)));
        Assert.That(run.GetProperty("parameters").GetProperty("active").GetInt64(), Is.EqualTo(Dense + (2 * 2 * Expert)));

        Assert.That(File.ReadAllText(folder.ConfigFile), Does.Contain("expert_width: 12"));
        var origins = JsonDocument.Parse(File.ReadAllText(folder.ConfigOriginFile)).RootElement;
        Assert.That(Origin("model.moe.expert_width"), Does.Match(@"^12 from .*tiny\.yaml:\d+$"));
        Assert.That(Origin("data.domains[0].name"), Does.Match(@"^text from .*tiny\.yaml:\d+$"));
        Assert.That(Origin("optimizer.name"), Does.EndWith(" from default"));
        Assert.That(Enumerable.Range(0, 4).Select(folder.LogFile), Is.All.Exist);
        Assert.That(File.ReadAllLines(folder.EventsFile).Select(Kind), Does.Contain("start").And.Contain("checkpoint").And.Contain("end"));
        Assert.That(File.ReadAllText(folder.LatestFile).Trim(), Is.EqualTo("step_00000012"));
        Assert.That(
            Directory.GetDirectories(folder.CheckpointsFolder).Select(Path.GetFileName),
            Is.EquivalentTo(["step_00000004", "step_00000008", "step_00000012"]));

        string Origin(string key) => $"{origins.GetProperty(key).GetProperty("value")} from {origins.GetProperty(key).GetProperty("origin")}";

        static string? Kind(string line) => JsonDocument.Parse(line).RootElement.GetProperty("kind").GetString();
    }

    [Test]
    public void Metrics_have_every_step_once_with_every_key()
    {
        var rows = Rows(_whole);
        var training = rows.Where(row => row.ContainsKey("train/loss")).ToArray();
        Assert.That(training.Select(row => row["step"]), Is.EqualTo(Enumerable.Range(1, 12)));
        foreach (var row in training)
        {
            Assert.That(row.Keys, Is.SupersetOf(KeysOfEveryRow));
            Assert.That(row["train/tokens"], Is.EqualTo(row["step"] * 4 * 2 * 16));
        }

        Assert.That(training[^1]["train/loss"], Is.LessThan(training[0]["train/loss"]), "it learns");
        Assert.That(rows.Where(row => row.ContainsKey("eval/loss")).Select(row => row["step"]), Is.EqualTo([6, 12]));
    }

    [Test]
    public void Keys_of_the_rows_are_those_that_follow_from_the_configuration([Values] bool hasDomains)
    {
        using var run = NewRun();
        string[] domains = ["--set", "data.domains=[{name: verse, path: text.txt}, {name: prose, path: text.txt}]"];
        Assert.That(Train(run, 1, ["--set", "train.steps=4", .. hasDomains ? domains : []]), Is.EqualTo(ExitCodes.Done), run.Error);

        var config = Moe.Training.Configuration.ConfigReader.Read(run.Folder.ConfigFile, []).Config;
        Assert.That(Rows(run).SelectMany(row => row.Keys).Distinct(), Is.EquivalentTo(MetricKeys.Of(config).Concat(["step", "unix_ms"])));
    }

    [Test]
    public void Each_step_has_the_load_of_every_expert_and_the_numbers_of_every_rank()
    {
        const int Chosen = 4 * 2 * 16 * 2; // ranks, sequences, tokens, experts a token
        var loads = Lines(_whole.Folder.ExpertsFile);
        Assert.That(loads.Select(Step), Is.EqualTo(Enumerable.Range(1, 12)));
        Assert.That(loads.Select(row => Table(row.GetProperty("tokens"))), Is.All.Matches<long[][]>(
            table => table.Length == 2 && table.All(layer => layer.Length == 8 && layer.Sum() == Chosen)));
        Assert.That(
            loads.Select(row => Table(row.GetProperty("tokens")).Sum(layer => layer.Count(tokens => tokens == 0))),
            Is.EqualTo(Rows(_whole).Where(row => row.ContainsKey("moe/dead_experts")).Select(row => row["moe/dead_experts"])));

        var ranks = Lines(_whole.Folder.RanksFile);
        Assert.That(ranks.Select(Step), Is.EqualTo(Enumerable.Range(1, 12)));
        foreach (var key in RankMeter.Keys)
        {
            Assert.That(ranks.Select(row => row.GetProperty(key).GetArrayLength()), Is.All.EqualTo(4), key);
        }

        var domains = Lines(_whole.Folder.DomainsFile);
        Assert.That(domains.Select(Step), Is.EqualTo([6, 12]));
        foreach (var domain in domains.Select(row => row.GetProperty("domains")[0]))
        {
            Assert.That(domain.GetProperty("name").GetString(), Is.EqualTo("text"));
            Assert.That(
                Table(domain.GetProperty("tokens")).Select(layer => layer.Sum()), Is.EqualTo(Enumerable.Repeat(2 * domain.GetProperty("evaluated").GetInt64(), 2)));
        }
    }

    [Test]
    public void Run_that_stops_and_resumes_has_the_same_bits_and_on_half_the_ranks_the_same_losses()
    {
        using var stopped = NewRun();
        Assert.That(Train(stopped, 4, "--set", "train.stop_at_step=6"), Is.EqualTo(ExitCodes.Stopped), stopped.Error);
        Assert.That(stopped.Record.GetProperty("status").GetString(), Is.EqualTo("stopped"));
        Assert.That(File.ReadAllText(stopped.Folder.LatestFile).Trim(), Is.EqualTo("step_00000006"));

        using var halved = NewRun();
        var checkpoint = Path.Combine(stopped.Folder.CheckpointsFolder, "step_00000006");
        Assert.That(Train(halved, 2, "--resume", checkpoint), Is.EqualTo(ExitCodes.Done), halved.Error);
        var (whole, onTwo) = (Losses(_whole), Losses(halved));
        Assert.That(onTwo.Keys, Is.EqualTo(Enumerable.Range(7, 6)));
        Assert.That(onTwo.Values, Is.EqualTo(onTwo.Keys.Select(step => whole[step])).Within(1e-4));
        Assert.That(Rows(halved).Where(row => row.ContainsKey("train/loss")).Select(row => row["train/tokens"]), Is.EqualTo(onTwo.Keys.Select(step => step * 128.0)));
        Assert.That(halved.Error + halved.Output, Does.Contain("train.accumulation is 2 instead of 1"));

        Assert.That(Train(stopped, 4), Is.EqualTo(ExitCodes.Done), stopped.Error);
        Assert.That(Losses(stopped), Is.EqualTo(whole));
        Assert.That(Losses(stopped, "eval/loss"), Is.EqualTo(Losses(_whole, "eval/loss")));
        Assert.That(File.ReadAllText(stopped.Folder.ExpertsFile), Is.EqualTo(File.ReadAllText(_whole.Folder.ExpertsFile)));
        Assert.That(File.ReadAllText(stopped.Folder.DomainsFile), Is.EqualTo(File.ReadAllText(_whole.Folder.DomainsFile)));
        Assert.That(Lines(stopped.Folder.RanksFile).Select(Step), Is.EqualTo(Enumerable.Range(1, 12)));
        Assert.That(stopped.Record.GetProperty("attempt").GetInt32(), Is.EqualTo(2));
        Assert.That(stopped.Record.GetProperty("resumed_from").GetString(), Is.EqualTo(checkpoint));
        AssertSameFiles(Path.Combine(_whole.Folder.CheckpointsFolder, "step_00000012"), Path.Combine(stopped.Folder.CheckpointsFolder, "step_00000012"));
    }

    [Test]
    public void Signal_stops_after_a_step_and_the_run_goes_on_with_the_same_losses()
    {
        using var run = NewRun();
        run.StartTrainer([.. Arguments(run, 2), "--backend", "gloo", "--set", "train.steps=20000", "--set", "train.eval_every=0"]).Until("step=3/");
        Assert.That(run.Signal(2).End(), Is.EqualTo(ExitCodes.Stopped), run.Error);

        var stoppedAt = (int)Losses(run).Keys.Max();
        Assert.That(File.ReadAllText(run.Folder.LatestFile).Trim(), Is.EqualTo($"step_{stoppedAt:D8}"));
        Assert.That(run.Processes, Is.Empty);
        var before = Losses(run);
        run.StartTrainer([.. Arguments(run, 2), "--backend", "gloo", "--set", "train.steps=20000", "--set", $"train.stop_at_step={stoppedAt + 2}"]);
        Assert.That(run.End(), Is.EqualTo(ExitCodes.Stopped), run.Error);
        Assert.That(Losses(run).Take(stoppedAt), Is.EqualTo(before));
        Assert.That(Losses(run).Keys, Is.EqualTo(Enumerable.Range(1, stoppedAt + 2)));
    }

    [TestCaseSource(typeof(Distributed.Ranks), nameof(Distributed.Ranks.Backends))]
    public void Rank_killed_in_mid_step_is_named_and_ends_all(string backend)
    {
        using var run = NewRun();
        run.StartTrainer([.. Arguments(run, 4), "--backend", backend, "--set", "train.steps=100000", "--set", "train.checkpoint_every=0"]).Until("step=3/");
        var victim = run.ProcessOfRank(2);
        LaunchedRun.SignalProcess(victim, 9);

        Assert.That(run.End(), Is.EqualTo(ExitCodes.Failed).Or.EqualTo(ExitCodes.Communication), run.Error);
        Assert.That(run.Error, Does.Contain($"root cause: rank 2 (node 2, local 0, pid {victim})").And.Contain("SIGKILL"));
        Assert.That(run.Record.GetProperty("status").GetString(), Is.EqualTo("failed"));
        Assert.That(run.Processes, Is.Empty);
    }

    [Test]
    public void Damaged_checkpoint_is_passed_over_with_a_warning_and_none_whole_is_exit_code_5()
    {
        using var run = NewRun();
        Assert.That(Train(run, 2, "--set", "train.stop_at_step=5"), Is.EqualTo(ExitCodes.Stopped), run.Error);
        Truncate(run, 5);

        Assert.That(Train(run, 2, "--set", "train.stop_at_step=6"), Is.EqualTo(ExitCodes.Stopped), run.Error);
        Assert.That(run.Record.GetProperty("resumed_from").GetString(), Does.EndWith("step_00000004"));
        Assert.That(File.ReadAllText(run.Folder.EventsFile), Does.Contain("step_00000005 is passed over").And.Contain("shard_00001.safetensors"));
        Assert.That(Losses(run).Keys, Is.EqualTo(Enumerable.Range(1, 6)));

        Truncate(run, 4);
        Truncate(run, 6);
        foreach (var left in Directory.GetDirectories(run.Folder.CheckpointsFolder).Where(path => !path.EndsWith("04", StringComparison.Ordinal) && !path.EndsWith("06", StringComparison.Ordinal)))
        {
            Directory.Delete(left, recursive: true);
        }

        Assert.That(Train(run, 2), Is.EqualTo(ExitCodes.Checkpoint));
        Assert.That(run.Error, Does.Contain("none of the 2 checkpoints"));
        Assert.That(Losses(run).Keys, Is.EqualTo(Enumerable.Range(1, 6)), "nothing of the run is lost");

        static void Truncate(LaunchedRun run, int step)
        {
            var shard = Path.Combine(run.Folder.CheckpointsFolder, $"step_{step:D8}", "shard_00001.safetensors");
            File.WriteAllBytes(shard, File.ReadAllBytes(shard)[..^8]);
        }
    }

    [TestCase("model.moe.experts=6", "parallel.expert_parallel")]
    [TestCase("model.sequence_length=500000", "model.sequence_length")]
    [TestCase("train.stepz=4", "train.steps")]
    [TestCase("parallel.expert_parallel=3", "parallel.expert_parallel")]
    public void Impossible_configuration_is_refused_before_any_rank_starts(string setting, string named)
    {
        using var run = NewRun();
        Assert.That(Train(run, 4, "--set", setting), Is.EqualTo(ExitCodes.Usage), run.Output);
        Assert.That(run.Error, Does.Contain(named));
        Assert.That(Directory.Exists(run.Folder.Path), Is.False);
    }

    [Test]
    public void Verification_of_a_sound_mesh_exits_with_0()
    {
        using var run = NewRun();
        var code = run.StartTrainer(["verify", .. Arguments(run, 2)]).End();
        Assert.That(code, Is.EqualTo(ExitCodes.Done), run.Output + run.Error);
        Assert.That(run.Output, Does.Contain("verified: the mesh computes what one process computes"));
        Assert.That(run.Output, Does.Contain("layers.1.moe.experts.7.gate").And.Contain("gradient norm of step 3"));
    }

    [Test]
    public void Benchmark_of_steps_prints_one_object_whose_numbers_fit_each_other()
    {
        using var run = NewRun();
        string[] options = ["--config", run.ConfigFile, "--run-dir", run.Folder.Path, "--nodes", "2", "--ui", "json", "--warmup", "1", "--repeats", "3"];
        Assert.That(run.StartTrainer(["bench", "step", .. options]).End(), Is.EqualTo(ExitCodes.Done), run.Error);
        var row = JsonSerializer.Deserialize<Dictionary<string, double>>(run.Output)!;
        var tokens = row["tokens_per_s"] * row["step_ms"] / 1000;
        Assert.That(tokens, Is.EqualTo(Math.Round(tokens)).Within(1e-6), "tokens of a step");
        Assert.That(row["step_ms"], Is.GreaterThan(row["optimizer_ms"]).And.InRange(row["step_ms_p10"], row["step_ms_p90"]));
        Assert.That(row["peak_gib"], Is.InRange(0.01, 4));
        Assert.That(row.Values, Is.All.GreaterThanOrEqualTo(0));
        Assert.That(row.Keys, Is.SupersetOf((string[])["tokens_per_s", "tflops_per_gpu", "mfu_pct", "step_ms", "all_to_all_ms", "peak_gib"]));
        Assert.That(row["tflops_per_gpu"], Is.Zero, "there is none at work");
        Assert.That(row["tflops_per_rank"], Is.GreaterThan(0));
        Assert.That(row["mfu_pct"], Is.EqualTo(100 * 2 * row["tflops_per_rank"] / row["machine_tflops"]).Within(1e-9).Percent, "both ranks against what both could do");
        Assert.That(row["all_to_all_ms"], Is.GreaterThan(0).And.LessThan(row["step_ms_mean"]), "they share the experts");
    }

    [Test]
    public void Sample_is_a_function_of_seed_and_prompt()
    {
        var first = Sample("1");
        Assert.That(first, Does.StartWith("All the").And.Length.EqualTo("All the".Length + 24 + 1));
        Assert.That(Sample("1"), Is.EqualTo(first));
        Assert.That(Sample("2"), Is.Not.EqualTo(first));

        string Sample(string seed)
        {
            var code = _whole.StartTrainer("sample", "--run", _whole.Folder.Path, "--prompt", "All the", "--tokens", "24", "--seed", seed).End();
            Assert.That(code, Is.EqualTo(ExitCodes.Done), _whole.Error);
            return _whole.Output;
        }
    }

    [Test]
    public void Evaluation_of_the_run_is_its_last_evaluation_row()
    {
        var code = _whole.StartTrainer("eval", "--run", _whole.Folder.Path, "--ui", "json").End();
        Assert.That(code, Is.EqualTo(ExitCodes.Done), _whole.Error);
        var evaluation = JsonDocument.Parse(_whole.Output).RootElement;
        Assert.That(evaluation.GetProperty("step").GetInt64(), Is.EqualTo(12));
        Assert.That(evaluation.GetProperty("loss").GetDouble(), Is.EqualTo(Rows(_whole).Last(row => row.ContainsKey("eval/loss"))["eval/loss"]).Within(1e-6));
    }

    private static LaunchedRun NewRun()
    {
        var run = new LaunchedRun();
        File.WriteAllText(run.ConfigFile, Config);
        return run;
    }

    private static string[] Arguments(LaunchedRun run, int nodes) =>
        ["--config", run.ConfigFile, "--run-dir", run.Folder.Path, "--ui", "plain", "--nodes", nodes.ToString(CultureInfo.InvariantCulture)];

    private static int Train(LaunchedRun run, int nodes, params string[] more) => run.StartTrainer([.. Arguments(run, nodes), .. more]).End();

    private static Dictionary<string, double>[] Rows(LaunchedRun run) =>
        [.. File.ReadLines(run.Folder.MetricsFile).Select(line => JsonSerializer.Deserialize<Dictionary<string, double>>(line)!)];

    private static JsonElement[] Lines(string file) => [.. File.ReadLines(file).Select(line => JsonDocument.Parse(line).RootElement)];

    private static long Step(JsonElement row) => row.GetProperty("step").GetInt64();

    private static long[][] Table(JsonElement table) =>
        [.. table.EnumerateArray().Select(layer => layer.EnumerateArray().Select(tokens => tokens.GetInt64()).ToArray())];

    private static SortedDictionary<double, double> Losses(LaunchedRun run, string key = "train/loss") =>
        new(Rows(run).Where(row => row.ContainsKey(key)).ToDictionary(row => row["step"], row => row[key]));

    private static void AssertSameFiles(string expected, string actual)
    {
        foreach (var shard in Directory.GetFiles(expected, "*.safetensors"))
        {
            Assert.That(File.ReadAllBytes(Path.Combine(actual, Path.GetFileName(shard))), Is.EqualTo(File.ReadAllBytes(shard)), Path.GetFileName(shard));
        }
    }
}

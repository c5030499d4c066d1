using System.Text.Json;
using System.Xml.Linq;
using Moe.Launch;
using Moe.Launch.Sweeps;
using Moe.Training.Hosting;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary><c>launch sweep</c>: which runs it makes, what becomes of them, and what it says at the end.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class SweepTests : LaunchTests
{
    private string Sweeps => Path.Combine(Path.GetDirectoryName(Launched.ConfigFile)!, "runs", "sweeps");

    [Test]
    public void Grid_and_seeds_make_a_run_folder_each_named_after_its_point()
    {
        var code = Sweep("recorded", "--grid", "optimizer.learning_rate=1e-3,3e-3", "--grid", "optimizer.name=adamw,sgd", "--seeds", "1,2", "--parallel", "4").End();

        Assert.That(code, Is.Zero, Launched.Error + Launched.Output);
        var folder = Path.Combine(Sweeps, "tiny-learning_rate-optimizer.name");
        var names = Record(folder).GetProperty("points").EnumerateArray().Select(point => point.GetProperty("name").GetString()!).ToList();
        Assert.That(names, Has.Count.EqualTo(8).And.Contains("learning_rate=3e-3,optimizer.name=sgd,seed=2"));
        foreach (var name in names)
        {
            var config = Moe.Training.Configuration.ConfigReader.Read(Path.Combine(folder, name, "config.yaml"), []).Config;
            Assert.That(name, Is.EqualTo($"learning_rate={(config.Optimizer.LearningRate < 0.002 ? "1e-3" : "3e-3")},optimizer.name={config.Optimizer.Name.ToString().ToLowerInvariant()},seed={config.Run.Seed}"));
        }
    }

    [Test]
    public void Results_are_sorted_with_their_spread_over_seeds()
    {
        var code = Sweep("recorded", "--grid", "optimizer.learning_rate=1e-3,3e-3", "--seeds", "1,2,3", "--metric", "train/loss", "--parallel", "3", "--name", "s").End();

        Assert.That(code, Is.Zero, Launched.Error);
        var folder = Path.Combine(Sweeps, "s");
        var results = Record(folder).GetProperty("results").EnumerateArray().ToList();
        Assert.That(results.Select(result => result.GetProperty("group").GetString()), Is.EqualTo(new[] { "learning_rate=3e-3", "learning_rate=1e-3" }), "FakeRank learns better at a higher rate");
        var values = Record(folder).GetProperty("points").EnumerateArray().Where(point => point.GetProperty("group").GetString() == "learning_rate=1e-3").Select(point => point.GetProperty("value").GetDouble()).ToList();
        Assert.That(values, Is.EqualTo(new[] { 1.001, 1.002, 1.003 }).Within(1e-9));
        Assert.That(results[1].GetProperty("mean").GetDouble(), Is.EqualTo(1.002).Within(1e-9));
        Assert.That(results[1].GetProperty("deviation").GetDouble(), Is.EqualTo(0.001).Within(1e-9));
        Assert.That(Launched.Output, Does.Match(@"(?m)^learning_rate=3e-3 +1 +3 +0\.5020 +± 0\.0010"));
        Assert.That(File.ReadAllText(Path.Combine(folder, "table.md")), Does.Contain("| 1 | learning_rate=3e-3 | 3 | 0.5020 | 0.0010 |"));
        var plot = XDocument.Load(Path.Combine(folder, "sweep.svg"));
        Assert.That(plot.Descendants().Count(element => element.Name.LocalName == "circle"), Is.EqualTo(8), "six runs and two means");
    }

    [Test]
    public void Same_command_keeps_what_is_done_and_says_so()
    {
        Sweep("recorded", "--seeds", "1,2", "--metric", "train/loss").End();
        var before = File.GetLastWriteTimeUtc(Path.Combine(Sweeps, "tiny-seeds", "seed=1", "run.json"));

        var code = Sweep("recorded", "--seeds", "1,2,3", "--metric", "train/loss").End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Error, Does.Contain("3 run(s)").And.Contain("1 to run"));
        Assert.That(File.GetLastWriteTimeUtc(Path.Combine(Sweeps, "tiny-seeds", "seed=1", "run.json")), Is.EqualTo(before));
    }

    [Test]
    public void Interrupted_sweep_saves_all_exits_75_and_continues()
    {
        Sweep("endless", "--seeds", "1,2,3", "--parallel", "2", "--metric", "train/loss");
        foreach (var point in new[] { "seed=1", "seed=2" })
        {
            WaitUntilRunning("tiny-seeds", point);
        }

        var code = Launched.Signal(2).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Stopped), Launched.Error);
        Assert.That(Statuses("tiny-seeds"), Is.EqualTo(new[] { "stopped", "stopped", "waiting" }));
        Assert.That(Launched.Error, Does.Contain("the same command continues"));
        Assert.That(File.ReadAllText(Path.Combine(Sweeps, "tiny-seeds", "seed=1", "events.jsonl")), Does.Contain("\"checkpoint\""));
        Assert.That(LaunchedRun.ProcessesBelow(Sweeps), Is.Empty);

        Assert.That(Sweep("recorded", "--seeds", "1,2,3", "--parallel", "2", "--metric", "train/loss").End(), Is.Zero, Launched.Error);
        Assert.That(Statuses("tiny-seeds"), Is.All.EqualTo("done"));
        Assert.That(RunRecordOf("tiny-seeds", "seed=1").GetProperty("attempt").GetInt32(), Is.EqualTo(2));
    }

    [Test]
    public void Second_signal_leaves_at_once()
    {
        Sweep("freeze@1", "--seeds", "1", "--nodes", "2", "--backend", "gloo", "--metric", "train/loss");
        WaitUntilRunning("tiny-seeds", "seed=1");
        Launched.Signal(2).Until("stopping 1 run(s)");

        var code = Launched.Signal(2).End();

        Assert.That(code, Is.EqualTo(130), Launched.Error);
        Assert.That(LaunchedRun.ProcessesBelow(Sweeps), Is.Empty);
    }

    [Test]
    public void Failed_points_are_told_and_run_again_only_on_request()
    {
        var code = Sweep("throw@0", "--seeds", "1,2", "--metric", "train/loss").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed));
        Assert.That(Launched.Error, Does.Contain("seed=1 failed: rank 0: InvalidOperationException: the loss is not finite").And.Contain("--retry-failed"));

        Assert.That(Sweep("recorded", "--seeds", "1,2", "--metric", "train/loss").End(), Is.EqualTo(ExitCodes.Failed), "left alone");
        Assert.That(Launched.Error, Does.Contain("2 run(s) failed before and are left alone"));
        Assert.That(Sweep("recorded", "--seeds", "1,2", "--metric", "train/loss", "--retry-failed").End(), Is.Zero, Launched.Error);
        Assert.That(Statuses("tiny-seeds"), Is.All.EqualTo("done"));
    }

    [Test]
    public void Runs_stop_by_themselves_when_the_sweep_is_killed_and_its_next_command_goes_on()
    {
        Sweep("endless", "--seeds", "1", "--metric", "train/loss");
        WaitUntilRunning("tiny-seeds", "seed=1");

        Launched.Signal(9).End();

        Launched.Wait(() => LaunchedRun.ProcessesBelow(Sweeps).Count == 0, "the end of the run");
        Launched.Wait(() => RunRecordOf("tiny-seeds", "seed=1").GetProperty("status").GetString() == "stopped", "the run to have stopped by itself");
        Assert.That(Sweep("recorded", "--seeds", "1", "--metric", "train/loss").End(), Is.Zero, Launched.Error);
    }

    [Test]
    public void All_faults_of_all_points_are_told_before_any_run_starts()
    {
        var code = Sweep("recorded", "--grid", "optimizer.learning_rate=1e-3,-1", "--grid", "train.stepz=10,20", "--set", "model.width=0").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("--grid: train.stepz is not a key; did you mean train.steps?"));
        Assert.That(Launched.Error, Does.Contain("--set: model.width is 0"));
        Assert.That(Launched.Error, Does.Match("--grid: optimizer.learning_rate is -1.*in learning_rate=-1,stepz=10"));
        Assert.That(Launched.Error.Split("model.width is 0"), Has.Length.EqualTo(2), "once, though all points have it");
        Assert.That(Directory.Exists(Sweeps), Is.False);
    }

    [TestCase("--grid", "optimizer.learning_rate", "isn't of the form")]
    [TestCase("--grid", "optimizer.learning_rate=1,,2", "empty value")]
    [TestCase("--grid", "optimizer.learning_rate=1,1", "twice")]
    [TestCase("--seeds", "1,x", "no whole number")]
    [TestCase("--grid", "optimizer.learning_rate=1e-3,0.001", "are the same run")]
    public void Grid_that_makes_no_sense_is_refused(string option, string value, string message)
    {
        var code = Sweep("recorded", option, value).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain(message));
        Assert.That(Directory.Exists(Sweeps), Is.False);
    }

    [TestCase("nope", "--metric: 'nope' is no key of metrics.jsonl; the keys are train/loss, .*, eval/loss, eval/tokens\n")]
    [TestCase("eval/los", "--metric: 'eval/los' is no key of metrics.jsonl; did you mean eval/loss or train/loss\\?\n")]
    [TestCase("mfu_pct", "did you mean perf/mfu_pct\\?\n")]
    [TestCase("step", "'step' is no key of metrics.jsonl")]
    [TestCase("eval/loss/text", "'eval/loss/text' is no key of metrics.jsonl")] // one domain has no loss beside the whole
    [TestCase("train/loss", "train.stepz is not a key", "--grid", "train.stepz=1,2")]
    [TestCase("eval/loss", "train.eval_every is 0, so that no run has eval/loss .*in eval_every=0", "--grid", "train.eval_every=0,100")]
    public void Metric_that_a_run_would_not_have_is_refused_before_any_run_starts(string metric, string message, params string[] grid)
    {
        var code = Sweep("recorded", ["--metric", metric, "--seeds", "1,2", .. grid]).End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Match(message));
        Assert.That(Directory.Exists(Sweeps), Is.False);
    }

    [Test]
    public void Loss_of_a_domain_ranks_runs_of_several_domains()
    {
        string[] domains = ["--set", "data.domains=[{name: verse, path: text.txt}, {name: prose, path: text.txt}]", "--seeds", "1", "--dry-run"];

        Assert.That(Sweep("recorded", ["--metric", "eval/loss/prose", .. domains]).End(), Is.Zero, Launched.Error);
        Assert.That(Sweep("recorded", ["--metric", "eval/loss/pros", .. domains]).End(), Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("did you mean eval/loss/prose"));
    }

    [Test]
    public void Sweep_whose_runs_all_lack_the_metric_says_so_and_fails()
    {
        var code = Sweep("done", "--seeds", "1,2", "--metric", "train/lr").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Failed), "fake ranks have no learning rate");
        Assert.That(Launched.Error, Does.Contain("no run has train/lr in its metrics.jsonl"));
        Assert.That(Statuses("tiny-seeds"), Is.All.EqualTo("done"));
        Assert.That(Record(Path.Combine(Sweeps, "tiny-seeds")).GetProperty("status").GetString(), Is.EqualTo("failed"));
    }

    [Test]
    public void Another_configuration_is_not_mixed_into_a_sweep()
    {
        Sweep("recorded", "--seeds", "1", "--metric", "train/loss").End();

        var code = Sweep("recorded", "--seeds", "1", "--metric", "train/loss", "--set", "model.layers=2").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Usage));
        Assert.That(Launched.Error, Does.Contain("another configuration: model.layers: 2 (was 4)").And.Contain("another --name"));
    }

    [Test]
    public void Runs_are_shown_under_one_parent_run_which_a_second_command_continues()
    {
        string[] arguments = ["--metric", "train/loss", "--set", "tracking.mlflow=file:./mlruns"];
        Assert.That(Sweep("recorded", [.. arguments, "--seeds", "1,2"]).End(), Is.Zero, Launched.Error);
        Assert.That(Sweep("recorded", [.. arguments, "--seeds", "1,2,3"]).End(), Is.Zero, Launched.Error);

        var parent = Record(Path.Combine(Sweeps, "tiny-seeds")).GetProperty("parent_run_id").GetString()!;
        for (var seed = 1; seed <= 3; seed++)
        {
            Assert.That(File.ReadAllText(new RunFolder(Path.Combine(Sweeps, "tiny-seeds", $"seed={seed}")).LogFile(0)), Does.Contain($"parent run {parent}\n"));
        }

        var store = Path.Combine(Path.GetDirectoryName(Launched.ConfigFile)!, "mlruns");
        var run = Directory.GetDirectories(store, parent, SearchOption.AllDirectories).Single();
        Assert.That(Directory.GetFiles(store, "meta.yaml", SearchOption.AllDirectories).Count(file => File.ReadAllText(file).Contains("run_id", StringComparison.Ordinal)), Is.EqualTo(1), "one parent run");
        Assert.That(File.ReadAllText(Path.Combine(run, "params", "seeds")), Is.EqualTo("1, 2"));
        Assert.That(File.ReadAllLines(Path.Combine(run, "metrics", "sweep", "finished")).Select(line => line.Split(' ')[1]), Is.EqualTo(new[] { "2", "3" }));
        Assert.That(File.Exists(Path.Combine(run, "artifacts", "sweep.svg")) && File.Exists(Path.Combine(run, "artifacts", "table.md")), Is.True);
    }

    [Test]
    public void Server_that_is_away_costs_the_parent_run_but_not_the_sweep()
    {
        var code = Sweep("recorded", "--metric", "train/loss", "--seeds", "1", "--set", "tracking.mlflow=http://127.0.0.1:9", "--set", "tracking.finish_wait_seconds=0.2").End();

        Assert.That(code, Is.Zero, Launched.Error);
        Assert.That(Launched.Error, Does.Contain("shown without a parent run"));
        Assert.That(Statuses("tiny-seeds"), Is.All.EqualTo("done"));
    }

    [Test]
    public void Sync_during_a_sweep_counts_its_parent_run_as_busy_and_ends_nothing()
    {
        var store = Path.Combine(Launched.Scratch, "mlruns");
        Sweep("endless", "--seeds", "1", "--metric", "train/loss", "--set", $"tracking.mlflow=file:{store}");
        WaitUntilRunning("tiny-seeds", "seed=1");

        using var other = new LaunchedRun();
        Assert.That(other.StartElsewhere(Launched.Scratch, "endless", "mlflow", "sync", "--all").End(), Is.Zero, other.Error);
        Assert.That(other.Output, Does.Match(@"(?m)^run=runs/sweeps/tiny-seeds sent=0 busy: another process \(pid \d+ on \S+\) sends it$").And.EndsWith("runs=1 whole=0 busy=1 behind=0 unreadable=0\n"));

        Assert.That(Launched.Signal(2).End(), Is.EqualTo(ExitCodes.Stopped), Launched.Error);
        var journal = File.ReadAllText(new RunFolder(Path.Combine(Sweeps, "tiny-seeds")).TrackingFile);
        Assert.That(journal, Does.Contain("SCHEDULED").And.Not.Contain("KILLED"));
        Assert.That(other.StartElsewhere(Launched.Scratch, "endless", "mlflow", "sync", "--all").End(), Is.Zero, other.Error);
        Assert.That(other.Output, Does.EndWith("runs=1 whole=1 busy=0 behind=0 unreadable=0\n"));
    }

    [Test]
    public void Two_launchers_do_not_share_a_sweep()
    {
        Sweep("endless", "--seeds", "1", "--metric", "train/loss");
        Launched.Wait(() => Statuses("tiny-seeds").Contains("running"), "a running point");

        using var second = new LaunchedRun();
        var code = second.StartElsewhere(Path.GetDirectoryName(Launched.ConfigFile)!, "endless", "sweep", "--config", Launched.ConfigFile, "--seeds", "1", "--metric", "train/loss").End();

        Assert.That(code, Is.EqualTo(ExitCodes.Preflight));
        Assert.That(second.Error, Does.Contain("is under way"));
    }

    [Test]
    public void Dry_run_lists_the_points_and_starts_none()
    {
        var code = Sweep("recorded", "--grid", "model.layers=2,4", "--dry-run").End();

        Assert.That(code, Is.Zero);
        Assert.That(Launched.Output, Does.Contain("  layers=2\n  layers=4\n"));
        Assert.That(Directory.Exists(Sweeps), Is.False);
    }

    [Test]
    public void Table_on_a_terminal_changes_in_place([Values(60, 120)] int columns)
    {
        var code = Launched.StartOnTerminalBare(columns, "recorded", "sweep", "--config", Launched.ConfigFile, "--seeds", "1,2", "--metric", "train/loss").End();

        Assert.That(code, Is.Zero, Launched.Output);
        Assert.That(Launched.Output, Does.Match("\u001b\\[\\d+A").And.Contain("2 done"));
    }

    [Test]
    public void Commas_inside_brackets_belong_to_the_value()
    {
        var axis = GridAxis.Parse("data.domains=[{name: a, path: x}],[]");

        Assert.That(axis.Values, Is.EqualTo(new[] { "[{name: a, path: x}]", "[]" }));
        Assert.That(() => GridAxis.Parse("=1"), Throws.TypeOf<LaunchException>());
    }

    [Test]
    public void Labels_are_the_last_part_of_a_key_where_that_is_enough()
    {
        var labels = SweepPoint.Labels([new("optimizer.learning_rate", ["1"]), new("optimizer.name", ["a"]), new("optimizer.muon.beta", ["1"]), new("optimizer.drop.beta", ["1"])]);

        Assert.That(labels.Values, Is.EqualTo(new[] { "learning_rate", "optimizer.name", "optimizer.muon.beta", "optimizer.drop.beta" }));
    }

    [Test]
    public void Plot_of_long_runs_stays_small_and_loses_no_peak()
    {
        const int Rows = 200_000;
        var steps = Enumerable.Range(1, Rows).Select(step => (double)step).ToList();
        var curves = new[] { 1, 2 }.ToDictionary(
            seed => $"seed={seed}",
            seed => new SweepCurve(steps, steps.ConvertAll(step => step == 100_000 ? -50.0 : 2 + (seed * step % 7) + (10 / step)), 2, new HashSet<string>()));
        var points = curves.Keys.Select((name, i) => new PointProgress(null!, new PointRecord(name, "seeds", new Dictionary<string, string>(), (ulong)i + 1, PointStatus.Done) { Value = 2 }, Rows)).ToList();
        var request = new SweepRequest(null, [], [], [1, 2], 1, 1, "gloo", 1, null, "train/loss", false, false, false, "plain");

        var svg = SweepPlot.Draw(request, points, curves);

        Assert.That(svg, Has.Length.LessThan(100_000));
        var lines = XDocument.Parse(svg).Descendants().Where(element => element.Name.LocalName == "path" && ((string?)element.Attribute("d"))!.Count(letter => letter == 'L') > 100).ToList();
        Assert.That(lines, Has.Count.EqualTo(3), "two runs and their mean");
        var lowest = lines.ConvertAll(line => ((string)line.Attribute("d")!).Split('M', 'L').Where(point => point.Length > 0).Max(point => double.Parse(point.Split(' ')[1], System.Globalization.CultureInfo.InvariantCulture)));
        Assert.That(lowest, Is.All.InRange(318, 330), "every line goes down to the peak");
    }

    [Test]
    public void Line_of_a_long_run_breaks_where_losses_are_missing()
    {
        var steps = Enumerable.Range(1, 10_000).Select(step => (double)step).ToList();
        var curve = new SweepCurve(steps, steps.ConvertAll(step => step is > 4000 and < 6000 ? double.NaN : 3 + Math.Sin(step)), 2, new HashSet<string>());
        var point = new PointProgress(null!, new PointRecord("one", "one", new Dictionary<string, string>(), 1, PointStatus.Done) { Value = 2 }, 10_000);
        var request = new SweepRequest(null, [], [], [1], 1, 1, "gloo", 1, null, "train/loss", false, false, false, "plain");

        var svg = SweepPlot.Draw(request, [point], new Dictionary<string, SweepCurve> { ["one"] = curve });

        Assert.That(svg, Has.Length.LessThan(100_000));
        Assert.That(XDocument.Parse(svg).Descendants().Where(element => element.Name.LocalName == "path").Max(path => ((string)path.Attribute("d")!).Count(letter => letter == 'M')), Is.EqualTo(2));
    }

    private LaunchedRun Sweep(string behaviour, params string[] arguments) => Launched.StartBare(behaviour, ["sweep", "--config", Launched.ConfigFile, .. arguments]);

    private static JsonElement Record(string folder) => JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "sweep.json"))).RootElement;

    private JsonElement RunRecordOf(string sweep, string point) => JsonDocument.Parse(File.ReadAllText(Path.Combine(Sweeps, sweep, point, "run.json"))).RootElement;

    private void WaitUntilRunning(string sweep, string point) => Launched.Wait(
        () => File.Exists(Path.Combine(Sweeps, sweep, point, "run.json")) && RunRecordOf(sweep, point).GetProperty("status").GetString() == "running", $"{point} to run");

    private List<string> Statuses(string sweep) => File.Exists(Path.Combine(Sweeps, sweep, "sweep.json"))
        ? [.. Record(Path.Combine(Sweeps, sweep)).GetProperty("points").EnumerateArray().Select(point => point.GetProperty("status").GetString()!)]
        : [];
}

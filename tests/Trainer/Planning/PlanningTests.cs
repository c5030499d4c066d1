using System.Globalization;
using Moe.Tests.Distributed;
using Moe.Torch;
using Moe.Training;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using Moe.Training.Planning;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Plans against what runs really take, and what must hold of any plan.</summary>
internal sealed class PlanningTests
{
    private static IEnumerable<TestCaseData> Meshes => [new(1, Ranks.Backends[0]), new(2, Ranks.Backends[^1]), new(4, Ranks.Backends[0])];

    private string _folder = null!;

    [OneTimeSetUp]
    public void WriteText()
    {
        _folder = Directory.CreateTempSubdirectory("moe-plan-").FullName;
        TinyRun.WriteText(_folder, seed: 7);
    }

    [OneTimeTearDown]
    public void DeleteText() => Directory.Delete(_folder, recursive: true);

    [TestCaseSource(typeof(PlanningCase), nameof(PlanningCase.Names))]
    public void Weights_gradients_and_state_of_one_rank_are_as_planned(string name)
    {
        var config = PlanningCase.Config(name, _folder) with { Parallel = new() { ExpertParallel = 1 } };
        using var mesh = TinyRun.Alone();
        using var session = new TrainingSession(config, mesh, new CheckpointFolder("nowhere"));
        session.Advance(stop: false); // before it there are no gradients
        using var model = new PlannedModel(config, ranks: 1);
        var plan = MemoryPlan.Of(model);

        Assert.That(plan.Of("weights"), Is.EqualTo(session.Model.Parameters.Sum(parameter => parameter.Value.Count * parameter.Value.DType.Size())));
        Assert.That(plan.Of("gradients"), Is.EqualTo(session.GradientBytes));
        Assert.That(
            plan.Persistent.Where(item => item.Kind.StartsWith("optimizer", StringComparison.Ordinal)).Sum(item => item.Bytes),
            Is.EqualTo(session.Optimizer.State.Sum(state => state.Value.Count * state.Value.DType.Size())));
        Assert.That(model.Count, Is.EqualTo(session.Parameters));
    }

    [TestCaseSource(typeof(Ranks), nameof(Ranks.Backends))]
    public void Bytes_and_calls_of_a_step_of_four_ranks_are_as_planned(string backend) =>
        Ranks.Run(PlanningScenarios.Step_is_as_planned, [_folder], worldSize: 4, backend);

    [TestCaseSource(nameof(Meshes))]
    public void Peak_of_a_step_is_as_planned(int ranks, string backend)
    {
        var seed = Random.Shared.Next(1 << 30);
        TestContext.Out.WriteLine($"seed {seed}");
        TestContext.Out.WriteLine(Ranks.Run(PlanningScenarios.Peak_is_as_planned, [_folder, seed.ToString(CultureInfo.InvariantCulture)], ranks, backend));
    }

    [Test]
    public void Shapes_take_no_memory()
    {
        var before = Tensor.LiveCount;
        var config = new RunConfig
        {
            Model = new() { Layers = 60, Width = 8192, Heads = 64, Vocabulary = 200_000, Moe = new() { Experts = 256, TopK = 8, ExpertWidth = 4096 } },
            Parallel = new() { ExpertParallel = 256 },
        };
        using (var model = new PlannedModel(config, ranks: 16384))
        {
            Assert.That(model.Count.Total, Is.GreaterThan(1_500_000_000_000));
            Assert.That(MemoryPlan.Of(model).Of("weights"), Is.EqualTo(4 * model.Parameters.Sum(parameter => parameter.Value.Count)));
        }

        Assert.That(Tensor.LiveCount, Is.EqualTo(before));
    }

    [Test]
    public void Traffic_is_divided_by_where_the_ranks_stand()
    {
        var config = PlanningCase.Config("replicas", _folder) with { Parallel = new() { ExpertParallel = 4 } };
        using var model = new PlannedModel(config, ranks: 8);
        var tokens = CollectivePlan.Of(model, DeviceRecords.Fast, perNode: 2).Single(item => item.Purpose == "tokens forward");

        Assert.That(tokens.Inside / (tokens.Inside + tokens.Between), Is.EqualTo(1.0 / 3).Within(1e-12), "one of three peers is on the node");
        Assert.That(tokens.Seconds, Is.EqualTo(tokens.Between / 1e9).Within(1e-12), "the slower link decides");
        Assert.That(tokens.Inside + tokens.Between, Is.EqualTo(tokens.Bytes).Within(1e-6));
    }

    [Test]
    public void Operations_of_the_products_are_six_a_weight_and_token()
    {
        var config = PlanningCase.Config("sgd", _folder);
        using var model = new PlannedModel(config, ranks: 1);
        var work = WorkPlan.Of(model, DeviceRecords.Fast, load: 1);
        var products = work.Where(item => item.Kind != "attention").Sum(item => item.Operations);

        Assert.That(products, Is.EqualTo(6.0 * model.Tokens * (model.Count.Active - model.Parameters.Where(parameter => parameter.Kind is ParameterKind.Embedding or ParameterKind.Norm).Sum(parameter => parameter.Value.Count))));
    }

    [Test]
    public void Other_meshes_are_ranked_by_speed_and_all_fit()
    {
        var config = PlanningCase.Config("adamw", _folder) with { Train = new() { MicroBatch = 8 } };
        var plan = StepPlan.Of(config, DeviceRecords.Fast, nodes: 2, perNode: 2);
        var others = MeshSearch.Fitting(plan, most: 10);

        Assert.That(others, Is.Not.Empty);
        Assert.That(others.Select(other => other.TokensPerSecond), Is.Ordered.Descending);
        Assert.That(others.All(other => other.Fits && other.TokensPerStep == plan.TokensPerStep));
        Assert.That(others.Select(other => (other.ExpertParallel, other.Config.Train.MicroBatch)), Does.Not.Contain((plan.ExpertParallel, 8)));
    }

    [Test]
    public void Experts_that_are_stepped_within_backward_are_planned_as_they_can_be()
    {
        var config = PlanningCase.Config("adamw", _folder);
        var within = config with { Optimizer = config.Optimizer with { ExpertsInBackward = true }, Train = config.Train with { ClipNorm = 0, MicroBatch = 8 } };
        using (var model = new PlannedModel(within, 4))
        using (var plain = new PlannedModel(config with { Train = within.Train }, 4))
        {
            var experts = model.Parameters.Where(parameter => parameter.Kind == ParameterKind.Expert).Sum(parameter => parameter.Value.Count * parameter.Value.DType.Size());
            Assert.That(MemoryPlan.Of(plain).Of("gradients") - MemoryPlan.Of(model).Of("gradients"), Is.EqualTo(experts));
        }

        var plans = MeshSearch.Variants(within, DeviceRecords.Fast, nodes: 1, perNode: 4).ToList();
        Assert.That(plans.Select(plan => (plan.ExpertParallel, plan.Config.Train.MicroBatch, plan.Config.Train.Accumulation)), Is.EqualTo(new[] { (4, 8, 1) }));
        var curve = ScalingCurve.Of(within, DeviceRecords.Fast, perNode: 4, first: 1, last: 4);
        Assert.That(curve.Weak.Concat(curve.Strong).Select(point => (point.Plan!.ExpertParallel, point.Plan.Config.Train.Accumulation)),
            Is.EqualTo(curve.Weak.Concat(curve.Strong).Select(point => (point.Ranks, 1))));
    }

    [Test]
    public void Curve_to_16384_devices_is_drawn_within_seconds()
    {
        var config = PlanningCase.Config("adamw", _folder);
        var clock = System.Diagnostics.Stopwatch.StartNew();
        var curve = ScalingCurve.Of(config, DeviceRecords.Fast, perNode: 8, first: 1, last: 16384);

        Assert.That(curve.Weak.Select(point => point.Ranks), Is.EqualTo(Enumerable.Range(0, 15).Select(power => 1 << power)));
        Assert.That(curve.Weak.Concat(curve.Strong).All(point => point.Plan is { } plan && double.IsFinite(plan.TokensPerSecond) && plan.TokensPerSecond > 0));
        Assert.That(curve.Strong.All(point => point.Plan!.TokensPerStep == 16384L * config.Model.SequenceLength));
        Assert.That(() => System.Xml.Linq.XDocument.Parse(ScalingPicture.Draw(curve)), Throws.Nothing);
        Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(30)));
    }

    [Test]
    public void Device_record_survives_its_file()
    {
        var path = Path.Combine(_folder, "device.yaml");
        var record = DeviceRecords.Fast with
        {
            SharedCores = 2,
            Kernels = new Dictionary<string, double> { ["norm"] = 2e-9 },
            Products = new Dictionary<string, IReadOnlyList<ProductRate>> { ["float32"] = [new(64, 32, 16, 5e11)] },
            Collectives = CollectiveForm.Ring,
            Straggling = 1.25,
        };
        File.WriteAllText(path, DeviceFile.Write(record));
        Assert.That(DeviceFile.Write(DeviceFile.Read(path)), Is.EqualTo(DeviceFile.Write(record)));
    }

    [Test]
    public void Faults_of_a_device_file_are_told_at_once_with_their_lines()
    {
        var path = Path.Combine(_folder, "wrong.yaml");
        File.WriteAllText(path, DeviceFile.Write(DeviceRecords.Fast).Replace("memory_gib: 1\n", "memory_gb: 1\n").Replace("launch_us: 0\n", "launch_us: fast\n"));
        var faults = Assert.Throws<ConfigException>(() => DeviceFile.Read(path))!.Faults.Select(fault => fault.ToString()).ToList();

        Assert.That(faults, Has.Some.Contains("memory_gib is missing"));
        Assert.That(faults, Has.Some.Contains("'memory_gb' is no key of a device record; the nearest is 'memory_gib'"));
        Assert.That(faults, Has.Some.Contains("launch_us is 'fast'; it takes a number"));
        Assert.That(faults.All(fault => fault.Contains("wrong.yaml:", StringComparison.Ordinal)));
    }

    [Test]
    public void Shipped_devices_can_be_read([Values("a100", "h100", "h200")] string name)
    {
        var record = DeviceFile.Read(Path.Combine(Moe.Launch.Runs.Repository.Find(AppContext.BaseDirectory)!, "configs", "devices", $"{name}.yaml"));
        Assert.That(record.Peak["bfloat16"], Is.GreaterThan(record.Products["bfloat16"][0].Rate));
        Assert.That(record.InsideNode.BytesPerSecond, Is.GreaterThan(record.BetweenNodes.BytesPerSecond));
    }
}

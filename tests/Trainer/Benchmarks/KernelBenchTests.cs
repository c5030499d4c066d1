using Moe.Distributed;
using Moe.Tests.Distributed;
using Moe.Tests.Torch;
using Moe.Torch;
using Moe.Training.Benchmarks;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Kernels are timed as they are called, and what they move and compute is counted as one would by hand.</summary>
[TestFixtureSource(typeof(Devices), nameof(Devices.Fixtures))]
internal sealed class KernelBenchTests(Device device)
{
    // Tokens, width, experts, choices, hidden width, vocabulary of TinyRun; float32, one rank.
    private const double T = 128, D = 16, E = 8, K = 2, F = 12, V = 256, S = 16;

    [Test]
    public void Router_and_copies_of_rows_are_counted_by_their_shapes()
    {
        var report = Run("dispatch");

        AssertCounts(report, "router product", "forward", 4 * ((T * D) + (E * D) + (T * E)), 2 * T * D * E);
        AssertCounts(report, "router product", "backward", 4 * ((2 * T * D) + (2 * E * D) + (T * E)), 4 * T * D * E);
        AssertCounts(report, "router choice", "forward", (4 * T * E) + (4 * E) + (T * K * (8 + 4 + 4)) + (E * (8 + 4)) + 4, 0);
        AssertCounts(report, "rows to experts", "forward", (4 * ((T * D) + (T * K * D))) + (4 * T * K), 0);
        AssertCounts(report, "sum of experts' rows", "forward", (4 * ((T * K * D) + (T * D))) + (4 * T * K), 0);
        AssertCounts(report, "rows to experts", "backward", (4 * ((T * K * D) + (T * D))) + (4 * T * K), 0);
        Assert.That(report.Kernels.Select(kernel => kernel.CallsPerStep), Is.All.EqualTo(2), "layers, one micro-batch");
    }

    [Test]
    public void Experts_are_counted_part_by_part_and_called_as_a_whole()
    {
        var report = Run("experts");

        var rows = T * K;
        AssertCounts(report, "experts, gate_up", "forward", 4 * ((rows * D) + (E * 2 * F * D) + (rows * 2 * F)), 2 * rows * 2 * F * D);
        AssertCounts(report, "experts, swiglu", "forward", 4 * ((rows * 3 * F) + rows), 0);
        AssertCounts(report, "experts, swiglu", "backward", 4 * ((rows * 6 * F) + (2 * rows)), 0);
        AssertCounts(report, "experts, down: rows, swiglu", "backward", 4 * ((rows * D) + (E * F * D) + (rows * 5 * F) + (2 * rows)), 2 * rows * F * D);
        AssertCounts(report, "experts, down: weights", "backward", 4 * ((rows * F) + (E * F * D) + (rows * D)), 2 * rows * F * D);
        var whole = Of(report, "experts, whole", "forward");
        Assert.That(whole.Operations, Is.EqualTo(2 * rows * 3 * F * D));
        Assert.That(whole.Bytes, Is.EqualTo(report.Kernels.Where(kernel => kernel.Direction == "forward" && kernel != whole).Sum(kernel => kernel.Bytes)), "that of its parts");
        Assert.That(report.Kernels.Where(kernel => kernel.CallsPerStep > 0).Select(kernel => kernel.Name), Is.All.EqualTo("experts, whole"));
    }

    [Test]
    public void Experts_that_are_stepped_within_backward_are_counted_there_and_no_more_behind_it()
    {
        static RunConfig Within(RunConfig config) => config with { Optimizer = new() { ExpertsInBackward = true } };
        var (report, plain) = (Run("experts", Within), Run("experts"));

        var rows = T * K;
        AssertCounts(report, "experts, gate_up: weights, stepped", "backward", 4 * ((rows * D) + (rows * 2 * F) + (6 * E * 2 * F * D)), 2 * rows * 2 * F * D);
        AssertCounts(report, "experts, down: weights, stepped", "backward", 4 * ((rows * F) + (rows * D) + (6 * E * F * D)), 2 * rows * F * D);
        var more = Of(report, "experts, whole", "backward").Bytes - Of(plain, "experts, whole", "backward").Bytes;
        Assert.That(more, Is.EqualTo(4 * 5 * E * 3 * F * D), "values and two means, read and written, for a gradient that was written");
        var behind = Of(Run("optimizer", config => config with { Optimizer = new() }), "step of adamw", "update").Bytes - Of(Run("optimizer", Within), "step of adamw", "update").Bytes;
        Assert.That(behind, Is.EqualTo(28 * 2 * E * 3 * F * D));
    }

    [Test]
    public void Dense_layers_and_shared_experts_have_lines_of_their_own()
    {
        var report = Run("experts", config => config with
        {
            Model = config.Model with { DenseLayers = 1, DenseWidth = 20, Moe = config.Model.Moe with { SharedExperts = 3 } },
            Train = config.Train with { Accumulation = 5 },
        });

        Assert.That(Of(report, "shared experts, whole", "forward").Operations, Is.EqualTo(2 * T * 3 * (3 * F) * D));
        Assert.That(Of(report, "feed-forward, whole", "backward").Operations, Is.EqualTo(4 * T * 3 * 20 * D));
        Assert.That(Of(report, "feed-forward, whole", "backward").CallsPerStep, Is.EqualTo(5), "a layer, five micro-batches");
    }

    [Test]
    public void Attention_counts_the_causal_half_and_norms_their_passes()
    {
        var report = Run("attention");

        AssertCounts(report, "norm of residual sum", "forward", 4 * ((4 * T * D) + D + T), 0);
        AssertCounts(report, "norm", "backward", 4 * ((3 * T * D) + (2 * D) + T), 0);
        AssertCounts(report, "qkv projection", "forward", 4 * ((T * D) + (3 * D * D) + (T * 3 * D)), 2 * T * 3 * D * D);
        AssertCounts(report, "attention", "forward", 4 * ((T * 3 * D) + (T * D) + (T * 2)), 2 * 2 * D * T * (S + 1) / 2);
        Assert.That(Of(report, "attention", "backward").Operations, Is.EqualTo(2.5 * Of(report, "attention", "forward").Operations));
        Assert.That(Of(report, "norm of residual sum", "forward").CallsPerStep, Is.EqualTo(4), "two of each layer");
        Assert.That(Of(report, "rotary heads", "forward").CallsPerStep, Is.EqualTo(device.IsCuda ? 2 : 0), "on the host attention turns the heads");
        Assert.That(report.Kernels.Select(kernel => kernel.Name), Has.None.EqualTo("projections: rounding"));
    }

    [Test]
    public void Weights_stored_wider_than_they_are_multiplied_are_rounded_at_each_use()
    {
        var report = Run("attention", config => config with { Train = config.Train with { Precision = Precision.BFloat16 } });

        AssertCounts(report, "projections: rounding", "forward", 4 * D * D * (4 + 2), 0);
        AssertCounts(report, "output projection", "forward", 2 * ((T * D) + (D * D) + (T * D)), 2 * T * D * D);
    }

    [Test]
    public void Head_makes_three_products_where_gradients_are_wanted_and_one_where_not()
    {
        var report = Run("head");

        AssertCounts(report, "loss with gradients", "forward", (4 * ((2 * T * D) + (2 * V * D))) + (8 * T), 3 * 2 * T * V * D);
        AssertCounts(report, "loss with gradients", "backward", 4 * ((2 * T * D) + (2 * V * D)), 0);
        AssertCounts(report, "loss alone", "forward", (4 * ((T * D) + (V * D))) + (8 * T), 2 * T * V * D);
    }

    [TestCase(OptimizerName.Sgd, 20)] // weight and momentum read and written, gradient read
    [TestCase(OptimizerName.AdamW, 28)]
    [TestCase(OptimizerName.Muon, null)]
    public void Optimizer_moves_the_bytes_of_its_state(OptimizerName name, double? bytesPerWeight)
    {
        var report = Run("optimizer", config => config with { Optimizer = config.Optimizer with { Name = name } });

        const double Weights = (2 * V * D) + D + (2 * ((2 * D) + (4 * D * D) + (E * D) + (E * 3 * F * D)));
        Assert.That(Of(report, "gradient norm", "update").Bytes, Is.EqualTo(4 * Weights));
        var step = report.Kernels.Single(kernel => kernel.Name.StartsWith("step of ", StringComparison.Ordinal));
        Assert.That(step.Bytes, bytesPerWeight is { } each ? Is.EqualTo(each * Weights) : Is.InRange(20 * Weights, 28 * Weights));
        Assert.That(step.Operations, bytesPerWeight is null ? Is.GreaterThan(0) : Is.Zero);
    }

    [Test]
    public void Only_dispatch_depends_on_the_way_that_tokens_go([Values] DispatcherName dispatcher)
    {
        var config = TinyRun.Config("nowhere");
        config = config with { Parallel = config.Parallel with { Dispatcher = dispatcher } };
        var isTimed = dispatcher is DispatcherName.Auto or DispatcherName.AllToAll or DispatcherName.Local;
        foreach (var family in KernelBench.Names)
        {
            Assert.That(() => KernelBench.Check(family, config), isTimed || family != "dispatch" ? Throws.Nothing : Throws.TypeOf<ConfigException>(), family);
        }
    }

    private KernelReport Run(string family, Func<RunConfig, RunConfig>? change = null)
    {
        var config = TinyRun.Config("nowhere"); // no kernel reads the text
        using var world = new SingleProcessGroup(TimeSpan.FromSeconds(10));
        using var mesh = new DeviceMesh(world, 1);
        var before = Tensor.LiveCount;
        var report = KernelBench.Run(family, change?.Invoke(config) ?? config, mesh, device, warmup: 1, repeats: 2, ceilingSeconds: 0.01);
        Assert.That(Tensor.LiveCount, Is.EqualTo(before), "nothing is left behind");
        KernelRows.AssertSound(report);
        return report;
    }

    private static KernelRow Of(KernelReport report, string name, string direction) => KernelRows.Of(report, name, direction);

    private static void AssertCounts(KernelReport report, string name, string direction, double bytes, double operations)
    {
        var kernel = Of(report, name, direction);
        Assert.That((kernel.Bytes, kernel.Operations), Is.EqualTo((bytes, operations)), $"{name}, {direction}");
    }
}

/// <summary>The same on two ranks that share the experts.</summary>
internal sealed class SharedKernelBenchTests
{
    [Test]
    public void Two_ranks_time_their_exchanges_and_count_together_what_one_rank_counts() => Ranks.Run(KernelBenchScenarios.AllFamilies, 2, Ranks.Backends[0]);
}

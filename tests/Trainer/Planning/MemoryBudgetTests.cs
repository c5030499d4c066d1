using System.Globalization;
using Moe.Launch.Checks;
using Moe.Training.Configuration;
using Moe.Training.Planning;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What a budget of memory chooses, and what is said where it can't be met.</summary>
public class MemoryBudgetTests : TinyRunTests
{
    private RunConfig Config => MemoryMeasurement.Config(Folder, Recompute.Auto);

    [Test]
    public void Of_all_that_fits_the_least_is_computed_again([Values(1, 4)] int ranks)
    {
        var all = Stated().Select(choice => MemoryBudget.Decide(With(choice, null), ranks)).ToList();
        foreach (var budget in all.Select(decision => decision.Plan.Peak).SelectMany(peak => new[] { peak, peak + 1 }))
        {
            var least = all.Where(decision => decision.Plan.Peak <= budget).Min(decision => decision.Operations);
            var chosen = MemoryBudget.Decide(With(null, budget), ranks);
            Assert.That(chosen.Plan.Peak, Is.LessThanOrEqualTo(budget));
            Assert.That(chosen.Operations, Is.EqualTo(least));
            Assert.That(chosen.Choice.Offloads, Is.False, "a CPU has nowhere to offload to");
        }

        Assert.That(MemoryBudget.Decide(With(null, all[0].Plan.Peak), ranks).Choice, Is.EqualTo(new MemoryChoice(Recompute.None, 0, false)), "nothing where all fits");
        Assert.That(all.Select(decision => decision.Operations), Is.Unique);
    }

    [Test]
    public void What_is_stated_is_only_checked()
    {
        var block = MemoryBudget.Decide(With((Recompute.Block, 4), null), 1);
        Assert.That(MemoryBudget.Decide(With((Recompute.Block, 4), block.Plan.Peak), 1).Choice, Is.EqualTo(new MemoryChoice(Recompute.Block, 4, false)));
        var refused = Assert.Throws<ConfigException>(() => MemoryBudget.Decide(With((Recompute.None, 0), block.Plan.Peak), 1))!;
        Assert.That(refused.Message, Does.Contain("with recompute none").And.Contain("train.recompute auto"));
    }

    [Test]
    public void A_budget_that_nothing_meets_is_refused_with_the_bytes_before_a_rank_starts()
    {
        var file = Path.Combine(Folder, "small.yaml");
        File.WriteAllText(file, "data:\n  domains: [{name: words, path: words.txt}]\ntrain:\n  memory_budget: 1.5 MiB\nparallel: {dispatcher: auto}\n");
        var fault = Assert.Throws<ConfigException>(() => Preflight.Configuration(file, [], nodes: 1, perNode: 2))!.Faults.Single();
        Assert.That(fault.ToString(), Does.Contain("small.yaml:4:3: train.memory_budget is 1.50 MiB, but the tensors of the fullest rank are planned to take"));
        Assert.That(fault.ToString(), Does.Contain("at least, with recompute block").And.Contain("weights").And.Contain("optimizer adamw").And.Contain("kept for backward").And.Contain("micro_batch").And.Contain("more ranks"));
    }

    [Test]
    public void A_gpu_offloads_only_where_computing_again_is_not_enough()
    {
        // So many tokens that what layers keep outweighs the gradients that take its place in backward.
        var config = Config with
        {
            Parallel = Config.Parallel with { Device = DeviceName.Cuda },
            Model = Config.Model with { Layers = 12 },
            Train = Config.Train with { MicroBatch = 16 * Config.Train.MicroBatch },
        };
        var block = MemoryBudget.Decide(config with { Train = config.Train with { Recompute = Recompute.Block } }, 1);
        var offloaded = MemoryBudget.Decide(config with { Train = config.Train with { Recompute = Recompute.Block, Offload = Offload.Activations } }, 1);
        Assert.That(offloaded.Plan.Peak, Is.LessThan(block.Plan.Peak));
        Assert.That(Chosen(block.Plan.Peak).Offloads, Is.False);
        Assert.That(Chosen(offloaded.Plan.Peak), Is.EqualTo(new MemoryChoice(Recompute.Block, 12, true)));
        Assert.That(() => Chosen(offloaded.Plan.Peak - 1), Throws.TypeOf<ConfigException>());

        MemoryChoice Chosen(long bytes) => MemoryBudget.Decide(config with { Train = config.Train with { MemoryBudget = Size(bytes) } }, 1).Choice;
    }

    [Test]
    public void Operations_are_those_of_the_planned_work([Values] NormPlacement norm)
    {
        foreach (var choice in Stated())
        {
            var config = With(choice, null);
            config = config with { Model = config.Model with { Norm = norm } };
            using var model = new PlannedModel(config, 1);
            var planned = WorkPlan.Of(model, DeviceRecords.Fast, load: 1).Where(item => item.Kind == "computed again").Sum(item => item.Operations);
            var step = model.Count.OperationsPerToken(config.Model) * model.Tokens;
            Assert.That(MemoryBudget.Decide(config, 1).Operations * step, Is.EqualTo(planned).Within(1e-9).Percent, choice.ToString());
        }
    }

    [TestCase("60GiB", 60L << 30)]
    [TestCase("1.5 GB", 1_500_000_000L)]
    [TestCase("512mib", 512L << 20)]
    [TestCase("3TiB", 3L << 40)]
    [TestCase("60", null)]
    [TestCase("GiB", null)]
    [TestCase("-1GiB", null)]
    [TestCase("0KiB", null)]
    [TestCase("1e3GiB", null)]
    [TestCase("99999999999TiB", null)]
    public void Sizes_are_read_as_people_write_them(string text, long? bytes) => Assert.That(ByteSize.Parse(text), Is.EqualTo(bytes));

    [TestCase(1536, "1.50 KiB")]
    [TestCase(45.6 * 1073741824, "45.6 GiB")]
    [TestCase(300.0 * 1048576, "300 MiB")]
    public void Sizes_are_written_in_three_digits(double bytes, string text) => Assert.That(ByteSize.Write(bytes), Is.EqualTo(text));

    private IEnumerable<(Recompute, int)?> Stated() =>
        [(Recompute.None, 0), .. Enumerable.Range(1, Config.Model.Layers).SelectMany(layers => new (Recompute, int)?[] { (Recompute.Experts, layers), (Recompute.Block, layers) })];

    private RunConfig With((Recompute Recompute, int Layers)? choice, long? budget) => Config with
    {
        Train = Config.Train with
        {
            Recompute = choice?.Recompute ?? Recompute.Auto,
            RecomputeLayers = choice is { Layers: > 0 and var layers } ? layers : null,
            MemoryBudget = budget is { } bytes ? Size(bytes) : null,
        },
    };

    // To the byte.
    private static string Size(long bytes) => ((decimal)bytes / 1024).ToString(CultureInfo.InvariantCulture) + "KiB";
}

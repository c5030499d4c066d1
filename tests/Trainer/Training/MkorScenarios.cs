using System.Globalization;
using Moe.Distributed;
using Moe.Training.Checkpoints;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What the ranks of <see cref="MkorTopologyTests"/> do.</summary>
internal static class MkorScenarios
{
    public static readonly TopologyCase[] Cases =
    [
        new("mkor-code", c => With(c, OptimizerName.Sgd, new MkorConfig { InverseFrequency = 1, MinTokens = 1 }) with
        {
            Model = c.Model with { DenseLayers = 1, QueryKeyNorm = true, Moe = c.Model.Moe with { CapacityFactor = 0.75, SharedExperts = 1 } },
            Train = c.Train with { Accumulation = 2, ClipNorm = 0.1 },
        }),
        new("mkor-exact", c => With(c, OptimizerName.AdamW, new MkorConfig
        {
            Rule = MkorUpdate.Exact, InverseFrequency = 2, WarmupSteps = 2, MinTokens = 5, LoadAware = true, Clip = 0.5, Skip = [new() { Match = "*.value" }],
        }) with
        {
            Balance = new() { Scope = BalanceScope.Global, Accumulation = BalanceAccumulation.Exact, Coefficient = 0.5 },
            Model = c.Model with { KeyValueHeads = 1, TieEmbeddings = true },
            Train = c.Train with { Accumulation = 2 },
        }),
    ];

    // Factors are quotients of sums in another order; three steps of Adam and clipping make little more of that.
    private const double Tolerance = 1e-10;
    private const int StepsBefore = 2;

    /// <summary>Trains on every mesh of these ranks and compares with the oracles; then continues the oracle's checkpoint. Arguments: folder, seed.</summary>
    public static void EqualOneProcess(ProcessGroup world, string[] arguments)
    {
        var (folder, seed) = (arguments[0], ulong.Parse(arguments[1], CultureInfo.InvariantCulture));
        List<string> differences = [];
        for (var expertParallel = 1; expertParallel <= world.Size; expertParallel *= 2)
        {
            using var mesh = new DeviceMesh(world, expertParallel);
            foreach (var topology in Cases)
            {
                foreach (var shard in new[] { true, false })
                {
                    var config = topology.Config(folder, Precision.Float64, seed);
                    config = config with { Parallel = config.Parallel with { ShardOptimizer = shard } };
                    var what = $"{topology.Name}, {mesh}, sharded {shard}";
                    using var session = TinyRun.Session(config, mesh);
                    differences.AddRange(TopologyOracle.Read(topology, folder, Precision.Float64).Differences(topology.Train(session), Tolerance).Select(d => $"{what}: {d}"));
                    differences.AddRange(Continued(topology, config, mesh, folder).Select(d => $"{what}, continued: {d}"));
                }
            }
        }

        Assert.That(differences, Is.Empty);
    }

    /// <summary>Saves on one process what <see cref="EqualOneProcess"/> continues.</summary>
    public static void SaveOracle(TopologyCase topology, string folder, ulong seed)
    {
        using var mesh = TinyRun.Alone();
        using var session = TinyRun.Session(topology.Config(folder, Precision.Float64, seed), mesh, Checkpoints(topology, folder));
        for (var step = 0; step < StepsBefore; step++)
        {
            session.Advance(stop: false);
        }

        session.Save();
    }

    private static IEnumerable<string> Continued(TopologyCase topology, RunConfig config, DeviceMesh mesh, string folder)
    {
        using var session = TinyRun.Session(config, mesh);
        using (var reader = new CheckpointReader(new CheckpointFolder(Checkpoints(topology, folder)).Of(StepsBefore)))
        {
            session.Resume(reader, Assert.Fail);
        }

        session.Advance(stop: false);
        var expected = TopologyOracle.Read(topology, folder, Precision.Float64).Weights[^1];
        return session.Weights().Where(pair => !(LogicalState.Apart(pair.Value, expected[pair.Key]) <= Tolerance)).Select(pair => pair.Key);
    }

    private static string Checkpoints(TopologyCase topology, string folder) => Path.Combine(folder, $"checkpoints-{topology.Name}");

    private static RunConfig With(RunConfig config, OptimizerName name, MkorConfig mkor) => config with
    {
        Optimizer = config.Optimizer with { Name = name, LearningRate = name == OptimizerName.Sgd ? 0.5 : 0.01, Precondition = Precondition.Mkor, Mkor = mkor },
    };
}

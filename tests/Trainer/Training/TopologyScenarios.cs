using System.Globalization;
using Moe.Distributed;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What the ranks of <see cref="TopologyTests"/> do.</summary>
internal static class TopologyScenarios
{
    /// <summary>Trains every case on every mesh of these ranks, and compares with the oracles. Arguments: folder, seed, precisions.</summary>
    public static void EqualOneProcess(ProcessGroup world, string[] arguments)
    {
        var (folder, seed) = (arguments[0], ulong.Parse(arguments[1], CultureInfo.InvariantCulture));
        List<string> differences = [];
        for (var expertParallel = 1; expertParallel <= world.Size; expertParallel *= 2)
        {
            using var mesh = new DeviceMesh(world, expertParallel) { RanksPerNode = 2 };
            foreach (var precision in arguments[2..].Select(Enum.Parse<Precision>))
            {
                foreach (var topology in TopologyCase.All)
                {
                    foreach (var dispatcher in Dispatchers(mesh, precision))
                    {
                        var what = $"{topology.Name}, {precision}, {mesh}, {dispatcher}";
                        differences.AddRange(Differences(topology, mesh, dispatcher, precision, folder, seed).Select(difference => $"{what}: {difference}"));
                    }
                }
            }
        }

        Assert.That(differences, Is.Empty);
    }

    // The reference form once, where it shows most; four ranks stand for two nodes.
    private static DispatcherName[] Dispatchers(DeviceMesh mesh, Precision precision) => (mesh.Expert.Size, precision) switch
    {
        (1, _) or (_, not Precision.Float64) => [DispatcherName.AllToAll],
        _ when mesh.HasExpertNodes => [DispatcherName.AllToAll, DispatcherName.TwoLevel, DispatcherName.AllGather],
        _ => [DispatcherName.AllToAll, DispatcherName.AllGather],
    };

    private static List<string> Differences(
        TopologyCase topology, DeviceMesh mesh, DispatcherName dispatcher, Precision precision, string folder, ulong seed)
    {
        var config = topology.Config(folder, precision, seed);
        using var session = TinyRun.Session(config with { Parallel = config.Parallel with { Dispatcher = dispatcher, DispatchChunks = dispatcher == DispatcherName.TwoLevel ? 3 : 1 } }, mesh);
        var actual = topology.Train(session);
        return [.. TopologyOracle.Read(topology, folder, precision).Differences(actual, precision == Precision.Float64 ? 1e-12 : 1e-6)];
    }
}

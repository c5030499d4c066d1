using System.Text.Json;
using Moe.Training.Configuration;

namespace Moe.Tests.Training;

/// <summary>What one process computes for a <see cref="TopologyCase"/>, in a file for the ranks.</summary>
internal sealed record TopologyOracle(StepNumbers[] Steps, Dictionary<string, double[]>[] Weights)
{
    /// <summary>Trains on one process, which reads as one micro-batch what the ranks read as one each.</summary>
    public static void Write(TopologyCase topology, string folder, Precision precision, ulong seed)
    {
        using var mesh = TinyRun.Alone();
        var config = topology.Config(folder, precision, seed);
        using var session = TinyRun.Session(config with { Parallel = config.Parallel with { Dispatcher = DispatcherName.Local } }, mesh);
        var (steps, weights) = topology.Train(session);
        File.WriteAllBytes(topology.OracleFile(folder, precision), JsonSerializer.SerializeToUtf8Bytes(new TopologyOracle(steps, weights)));
    }

    public static TopologyOracle Read(TopologyCase topology, string folder, Precision precision) =>
        JsonSerializer.Deserialize<TopologyOracle>(File.ReadAllBytes(topology.OracleFile(folder, precision)))!;

    /// <summary>What of a rank's run differs.</summary>
    public IEnumerable<string> Differences((StepNumbers[] Steps, Dictionary<string, double[]>[] Weights) actual, double tolerance)
    {
        for (var step = 0; step < Steps.Length; step++)
        {
            foreach (var difference in Steps[step].Differences(actual.Steps[step], tolerance))
            {
                yield return $"step {step + 1}: {difference}";
            }
        }

        for (var i = 0; i < Weights.Length; i++)
        {
            foreach (var (key, value) in actual.Weights[i])
            {
                var apart = LogicalState.Apart(value, Weights[i][key]);
                if (!(apart <= tolerance))
                {
                    yield return FormattableString.Invariant($"after step {TopologyCase.ComparedSteps[i]}: {key} is {apart:E1} apart");
                }
            }
        }
    }
}

using System.Globalization;
using Moe.Tests.Distributed;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>Steps on a mesh are the steps of one process, whatever balances, drops, clips or accumulates.</summary>
public class TopologyTests
{
    private DirectoryInfo _folder = null!;
    private string _seed = "";

    [OneTimeSetUp]
    public void TrainOnOneProcess()
    {
        _folder = Directory.CreateTempSubdirectory("moe-topology-");
        var seed = Random.Shared.Next(1 << 30);
        _seed = seed.ToString(CultureInfo.InvariantCulture);
        TestContext.Progress.WriteLine($"seed {_seed}");
        TinyRun.WriteText(_folder.FullName, seed);
        foreach (var topology in TopologyCase.All)
        {
            foreach (var precision in TopologyCase.Precisions)
            {
                TopologyOracle.Write(topology, _folder.FullName, precision, (ulong)seed);
            }
        }
    }

    [OneTimeTearDown]
    public void DeleteFolder() => _folder.Delete(recursive: true);

    [Test]
    public void Every_parameter_is_that_of_one_process([Values(2, 4)] int ranks, [ValueSource(typeof(Ranks), nameof(Ranks.Backends))] string backend)
    {
        // Single precision adds nothing about a backend that the first one has not shown.
        string[] precisions = backend == Ranks.Backends[0] ? ["Float64", "Float32"] : ["Float64"];
        Ranks.Run(TopologyScenarios.EqualOneProcess, [_folder.FullName, _seed, .. precisions], ranks, backend, TimeSpan.FromMinutes(3));
    }
}

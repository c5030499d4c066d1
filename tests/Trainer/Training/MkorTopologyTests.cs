using System.Globalization;
using Moe.Tests.Distributed;
using Moe.Training.Configuration;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>MKOR makes the same steps on every mesh, sharded or not, and goes on from a checkpoint of another mesh.</summary>
public class MkorTopologyTests
{
    private DirectoryInfo _folder = null!;
    private string _seed = "";

    [OneTimeSetUp]
    public void TrainOnOneProcess()
    {
        _folder = Directory.CreateTempSubdirectory("moe-mkor-");
        var seed = Random.Shared.Next(1 << 30);
        _seed = seed.ToString(CultureInfo.InvariantCulture);
        TestContext.Progress.WriteLine($"seed {_seed}");
        TinyRun.WriteText(_folder.FullName, seed);
        foreach (var topology in MkorScenarios.Cases)
        {
            TopologyOracle.Write(topology, _folder.FullName, Precision.Float64, (ulong)seed);
            MkorScenarios.SaveOracle(topology, _folder.FullName, (ulong)seed);
        }
    }

    [OneTimeTearDown]
    public void DeleteFolder() => _folder.Delete(recursive: true);

    [Test]
    public void Every_parameter_is_that_of_one_process([Values(2, 4)] int ranks) =>
        Ranks.Run(MkorScenarios.EqualOneProcess, [_folder.FullName, _seed], ranks, Ranks.Backends[0], TimeSpan.FromMinutes(2));
}

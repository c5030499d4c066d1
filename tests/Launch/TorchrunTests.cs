using Moe.Distributed;
using Moe.Distributed.Gloo;
using NUnit.Framework;

namespace Moe.Tests.Launch;

/// <summary>Ranks with torchrun's variables, around a store that its agent would keep.</summary>
[Parallelizable(ParallelScope.None)]
internal sealed class TorchrunTests
{
    private const string Config = """
        model:
          layers: 1
          width: 16
          heads: 2
          sequence_length: 16
          moe: {experts: 4, top_k: 2, expert_width: 12}
        data: {random: true}
        train: {micro_batch: 2, eval_every: 0}
        parallel: {timeout_seconds: 20}
        """;

    private LaunchedRun[] _ranks = null!;

    [SetUp]
    public void CreateRanks()
    {
        Assume.That(GlooProcessGroup.IsBuilt);
        _ranks = [new(), new()];
        foreach (var (number, rank) in _ranks.Index())
        {
            File.WriteAllText(rank.ConfigFile, Config);
            rank.Environment["RANK"] = rank.Environment["LOCAL_RANK"] = $"{number}";
            rank.Environment["WORLD_SIZE"] = rank.Environment["LOCAL_WORLD_SIZE"] = "2";
            rank.Environment["GROUP_RANK"] = "0";
            rank.Environment["MASTER_ADDR"] = "127.0.0.1";
        }
    }

    [TearDown]
    public void DisposeRanks() => Array.ForEach(_ranks, rank => rank.Dispose());

    [Test]
    public void Ranks_that_are_started_anew_meet_in_the_store_of_the_attempt_before()
    {
        using var store = new StoreServer();
        for (var attempt = 0; attempt < 2; attempt++)
        {
            foreach (var rank in _ranks)
            {
                rank.Environment["MASTER_PORT"] = $"{store.Port}";
                rank.Environment["TORCHELASTIC_RESTART_COUNT"] = $"{attempt}";
                rank.StartRank("bench", "--config", rank.ConfigFile, "--backend", "gloo", "--warmup", "0", "--repeats", "1");
            }

            foreach (var rank in _ranks)
            {
                Assert.That(rank.End(), Is.Zero, $"attempt {attempt}: {rank.Output}{rank.Error}");
            }
        }
    }
}

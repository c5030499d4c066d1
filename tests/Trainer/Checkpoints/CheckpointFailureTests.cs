using Moe.Tests.Distributed;
using Moe.Tests.Training;
using NUnit.Framework;

namespace Moe.Tests.Checkpoints;

public class CheckpointFailureTests : TinyRunTests
{
    [Test]
    public void One_rank_that_cannot_write_is_named_by_all_and_the_checkpoint_before_stays() =>
        Ranks.Run(CheckpointScenarios.FailTogether, [Folder], 2, Ranks.Backends[0]);

    [Test]
    public void Files_may_take_longer_than_a_collective([ValueSource(typeof(Ranks), nameof(Ranks.Backends))] string backend) =>
        Ranks.Run(CheckpointScenarios.WaitForFiles, [Path.Combine(Folder, backend)], 2, backend, groupTimeout: TimeSpan.FromSeconds(2));
}

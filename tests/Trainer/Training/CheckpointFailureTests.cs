using Moe.Tests.Distributed;
using NUnit.Framework;

namespace Moe.Tests.Training;

public class CheckpointFailureTests : TinyRunTests
{
    [Test]
    public void One_rank_that_cannot_write_is_named_by_all_and_the_checkpoint_before_stays() =>
        Ranks.Run(CheckpointScenarios.FailTogether, [Folder], 2, Ranks.Backends[0]);
}

using System.Globalization;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

public sealed class CollectiveTests
{
    private static string[] Seed => [Random.Shared.Next().ToString(CultureInfo.InvariantCulture)];

    private static IEnumerable<TestCaseData> Worlds() =>
        from backend in (string[])["single", .. Ranks.Backends]
        from size in Enumerable.Range(1, backend == "single" ? 1 : 4)
        select new TestCaseData(backend, size);

    [TestCaseSource(nameof(Worlds))]
    public void Collectives_equal_plain_copies_and_sums(string backend, int size) => Ranks.Run(Everything, Seed, size, backend);

    [Test]
    public void Messages_beyond_the_limit_of_MPI_go_in_pieces()
    {
        Assume.That(Ranks.Backends, Does.Contain("mpi"));
        Ranks.Run(FailureScenarios.SendsInPieces, Seed, 3, "mpi");
    }

    private static void Everything(Moe.Distributed.ProcessGroup world, string[] seed)
    {
        CollectiveScenarios.MovesRows(world, seed);
        CollectiveScenarios.GathersAndBroadcasts(world, seed);
        CollectiveScenarios.Reduces(world, seed);
        CollectiveScenarios.NaNWinsEveryReduction(world);
        CollectiveScenarios.ManyInFlight(world, seed);
    }
}

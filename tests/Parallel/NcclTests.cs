using System.Globalization;
using Moe.Distributed;
using Moe.Tests.Models;
using Moe.Tests.Torch;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>The scenarios of the other backends over NCCL, with tensors on the GPUs: a rank a GPU, two of them.</summary>
[Category(Devices.Cuda)]
public sealed class NcclTests
{
    private const int Gpus = 2;
    private static readonly TimeSpan GroupTimeout = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(120); // the first use of a GPU takes seconds

    private static string[] Seed => [Random.Shared.Next(1 << 30).ToString(CultureInfo.InvariantCulture)];

    [OneTimeSetUp]
    public void Need_a_GPU_for_each_rank()
    {
        if (CudaRuntime.DeviceCount < Gpus)
        {
            Assert.Ignore($"there are {CudaRuntime.DeviceCount} CUDA devices here, not {Gpus}: not run");
        }
    }

    [Test, Order(1)]
    public void Rows_arrive_where_they_are_sent() => Run(CollectiveScenarios.MovesRows, Seed);

    [Test, Order(2)]
    public void Collectives_equal_plain_copies_and_sums() => Run(Everything, Seed);

    [Test]
    public void Tensors_of_the_host_go_by_the_device() => Run(OnHost, Seed);

    [Test]
    public void Groups_overlap_and_reach_exactly_their_members() => Run(Overlap, Seed);

    [Test]
    public void The_current_stream_waits_and_the_host_does_not() => Run(WaitOnTheStream, Seed);

    [Test]
    public void All_to_all_and_all_gather_follow_the_definition() => Run(DispatcherScenarios.CompareWithDefinition, Seed);

    [Test]
    public void Two_ranks_have_the_bits_of_one() => Run(DispatcherScenarios.CompareWithOneRank, Seed);

    [Test]
    public void No_tensor_outlives_its_step() => Ranks.Run(DispatcherScenarios.CountTensors, Gpus, "nccl", Patience);

    [Test]
    public void Rows_travel_four_times_and_counts_once() => Ranks.Run(DispatcherScenarios.CountCollectives, Gpus, "nccl", Patience);

    [Test]
    public void Chunks_and_blocks_compute_what_the_steps_one_after_another_do() => Run(RoutedFeedForwardScenarios.CompareWithStepwise, Seed);

    [Test]
    public void Chunks_change_results_by_rounding_only_share_an_exchange_of_sizes_and_leave_no_tensor() =>
        Run(RoutedFeedForwardScenarios.CutIntoChunks, Seed);

    [Test]
    public void A_rank_short_of_memory_works_in_blocks() => Run(RoutedFeedForwardScenarios.WorkInBlocks, Seed);

    [Test]
    public void Over_nodes_of_one_rank_the_definition_holds_too() => Run(DispatcherScenarios.CompareOverNodesOfOne, Seed);

    [TestCase("1")]
    [TestCase("2")]
    public void Gradients_are_added_by_the_record(string expertParallel) => Run(GradientScenarios.ReduceByTheRecord, [.. Seed, expertParallel]);

    [Test]
    public void Experts_on_two_ranks_have_the_golden_norm() => Ranks.Run(GradientScenarios.GoldenNorm, Gpus, "nccl", Patience);

    [TestCase("1")]
    [TestCase("2")]
    public void Steps_on_shares_are_the_steps_on_all(string expertParallel) => Run(ShardedReductionScenarios.StepAsOne, [.. Seed, expertParallel]);

    [Test]
    public void A_rank_that_never_comes_is_told_by_the_others_in_time()
    {
        var report = Fail(FailureScenarios.NeverComes, GroupTimeout);
        Assert.That(report.Ranks[0].ExitCode, Is.EqualTo(RankScenario.CommunicationFailed), report.ToString());
        Assert.That(report.Ranks[0].Output, Does.Contain("0 of 2 in nccl group 'world', step 17, layer 3, dispatch: all_to_all of"), report.ToString());
        Assert.That(report.Ranks[0].Output, Does.Contain("not finished within 2 s").And.Contain("rank 1 has not come to it"), report.ToString());
        Assert.That(report.Ranks[0].Output, Does.Contain("rows to each rank [1, 1], rows from each rank [1, 2]"), report.ToString());
    }

    [Test]
    public void Several_operations_in_flight_don_t_add_their_time_outs_up()
    {
        var report = Fail(FailureScenarios.NeverComesWithSeveralInFlight, GroupTimeout);
        Assert.That(report.Ranks[0].Output, Does.Contain("all_reduce of 200000 bytes").And.Contain("not finished within 2 s"), report.ToString());
    }

    [Test]
    public void A_killed_rank_is_named_by_the_others()
    {
        var report = Fail(FailureScenarios.DiesInAnAllToAll, TimeSpan.FromSeconds(5));
        Assert.That(report.Ranks[0].ExitCode, Is.EqualTo(RankScenario.CommunicationFailed), report.ToString());
        Assert.That(report.Ranks[0].Output, Does.Contain("step 17, layer 3, dispatch: all_to_all").And.Contain("[65536, 65536]"), report.ToString());
        Assert.That(report.Ranks[0].Output, Does.Contain($"no word came from rank {FailureScenarios.Culprit}"), report.ToString());
    }

    [Test]
    public void A_rank_that_throws_ends_without_waiting_for_anyone()
    {
        var report = Fail(FailureScenarios.ThrowsInTheMiddle, TimeSpan.FromSeconds(5));
        Assert.That(report.Ranks[FailureScenarios.Culprit].Output, Does.Contain("on purpose"), report.ToString());
        Assert.That(report.Ranks[FailureScenarios.Culprit].ExitCode, Is.EqualTo(RankScenario.Failed), report.ToString());
    }

    [Test]
    public void A_group_that_not_all_members_join_is_given_up()
    {
        var report = Fail(FailureScenarios.NeverJoinsTheGroup, GroupTimeout);
        Assert.That(report.Ranks[0].Output, Does.Contain("create_group").And.Contain("world/late").And.Contain("no word came from rank 1"), report.ToString());
    }

    [Test]
    public void A_group_is_of_no_more_use_after_a_failure()
    {
        var report = Fail(FailureScenarios.IsOfNoMoreUse, GroupTimeout);
        Assert.That(report.Ranks[0].Output, Does.Contain("as expected"), report.ToString());
    }

    private static void Run(Action<ProcessGroup, string[]> scenario, string[] arguments) => Ranks.Run(scenario, arguments, Gpus, "nccl", Patience);

    private static RanksReport Fail(Delegate scenario, TimeSpan groupTimeout)
    {
        var report = Ranks.Spawn(scenario, Gpus, "nccl", Patience, groupTimeout);
        Assert.That(report.TimedOut, Is.False, report.ToString());
        Assert.That(report.ExitCode, Is.Not.Zero, report.ToString());
        Assert.That(report.Leftovers, Is.Zero, report.ToString());
        Assert.That(report.Elapsed, Is.LessThan(TimeSpan.FromSeconds(60)), report.ToString());
        return report;
    }

    private static void Everything(ProcessGroup world, string[] seed)
    {
        CollectiveScenarios.GathersAndBroadcasts(world, seed);
        CollectiveScenarios.Reduces(world, seed);
        CollectiveScenarios.NaNWinsEveryReduction(world);
        CollectiveScenarios.ManyInFlight(world, seed);
    }

    private static void OnHost(ProcessGroup world, string[] seed)
    {
        RandomTensors.Device = Device.Cpu;
        CollectiveScenarios.MovesRows(world, seed);
        CollectiveScenarios.GathersAndBroadcasts(world, seed);
        CollectiveScenarios.NaNWinsEveryReduction(world);
        Assert.That(world.AllReduce((double)world.Rank), Is.EqualTo(1));
        Assert.That(world.GatherBytes([(byte)world.Rank, 7])[1], Is.EqualTo(new byte[] { 1, 7 }));
    }

    // Waits go in another order than starts, and a group is made and left while others work.
    private static void Overlap(ProcessGroup world, string[] seed)
    {
        using var scope = new TensorScope();
        using var mesh = new DeviceMesh(world, world.Size);
        ProcessGroup[] groups = [world, mesh.Expert, mesh.Gradients, mesh.Metrics];
        for (var round = 0; round < 3; round++)
        {
            using var reversed = world.CreateGroup([.. Enumerable.Range(0, world.Size).Reverse()], "reversed");
            Assert.That(reversed.Rank, Is.EqualTo(world.Size - 1 - world.Rank), seed[0]);
            var values = Enumerable.Range(0, 12).Select(i => Tensor.Full([1 << 18], world.Rank + i, DType.Int64).Here()).ToArray();
            var works = values.Select((tensor, i) => (i == 5 ? reversed : groups[i % 4]).AllReduceAsync(tensor)).ToArray();
            foreach (var i in world.Rank == 0 ? Enumerable.Range(0, 12) : Enumerable.Range(0, 12).Reverse())
            {
                works[i].Wait();
                Assert.That(values[i].ToArray<long>(), Is.All.EqualTo(1 + (2 * i)), $"operation {i}");
            }
        }
    }

    // The other rank comes half a second late: the wait returns long before, and what is read afterwards is still right.
    private static void WaitOnTheStream(ProcessGroup world, string[] seed)
    {
        using var scope = new TensorScope();
        var values = Tensor.Ones([1 << 20]).Here();
        world.AllReduce(values);
        CudaRuntime.Synchronize();
        world.Barrier();
        world.Trace.ResetTotals();
        if (world.Rank == 1)
        {
            Thread.Sleep(500);
        }

        var clock = System.Diagnostics.Stopwatch.StartNew();
        world.AllReduceAsync(values).Wait();
        var returned = clock.Elapsed;
        var doubled = values * 2;
        Assert.That(doubled.ToArray<float>(), Is.All.EqualTo(8f), seed[0]);
        Assert.That(returned, Is.LessThan(TimeSpan.FromMilliseconds(200)));
        if (world.Rank == 0)
        {
            Assert.That(world.Trace.Totals(Collective.AllReduce).Waited, Is.GreaterThan(TimeSpan.FromMilliseconds(250)), "the time on the device counts");
        }
    }
}

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Moe.Distributed;
using Moe.Distributed.Nccl;
using Moe.Torch;
using NUnit.Framework;

namespace Moe.Tests.Distributed;

/// <summary>What of the NCCL backend can be seen without a GPU.</summary>
public sealed class NcclLibraryTests
{
    private const string Packages = "/opt/venv/lib/python3.12/site-packages";

    private static readonly int[] Pair = [4, 7];

    [Test]
    public void The_NCCL_that_libtorch_has_loaded_comes_first()
    {
        string[] mapped = [$"{Packages}/torch/lib/libtorch_cuda.so", $"{Packages}/nvidia/nccl/lib/libnccl.so.2"];
        Assert.That(NcclLibrary.Candidates(null, mapped), Is.EqualTo(
            [$"{Packages}/nvidia/nccl/lib/libnccl.so.2", "libnccl.so.2", $"{Packages}/torch/lib/libnccl.so.2"]));
    }

    [Test]
    public void Without_one_loaded_the_loader_is_asked_and_then_the_packages_beside_libtorch() =>
        Assert.That(NcclLibrary.Candidates(null, [$"{Packages}/torch/lib/libtorch_cuda.so", "/usr/lib/libc.so.6"]), Is.EqualTo(
            ["libnccl.so.2", $"{Packages}/torch/lib/libnccl.so.2", $"{Packages}/nvidia/nccl/lib/libnccl.so.2"]));

    [Test]
    public void A_device_that_cannot_even_be_chosen_is_a_failure_that_the_next_operation_throws()
    {
        using var store = new StoreServer();
        var trace = new CollectiveTrace();
        using var session = new NcclSession(new StoreConnection("127.0.0.1", store.Port, TimeSpan.FromSeconds(10)), "job", 0, Device.Cuda(63), trace);
        Assert.That(() => trace.Failure?.Message, Does.StartWith("the device failed under the communication").After(10_000, 20));
        Assert.That(session.ThrowIfFailed, Throws.TypeOf<TransferException>());
    }

    [Test]
    public void A_named_library_is_the_only_one_that_is_tried() =>
        Assert.That(NcclLibrary.Candidates("/there/libnccl.so", [$"{Packages}/nvidia/nccl/lib/libnccl.so.2"]), Is.EqualTo(["/there/libnccl.so"]));

    [Test]
    public void Paths_are_read_from_the_maps_of_a_process() => Assert.That(
        NcclLibrary.PathsOf(
        [
            "7f00-7f01 r-xp 00000000 08:01 12   /a b/libtorch_cuda.so",
            "7f01-7f02 rw-p 00000000 08:01 12   /a b/libtorch_cuda.so",
            "7f02-7f03 rw-p 00000000 00:00 0",
            "7f03-7f04 rw-p 00000000 00:00 0    [heap]",
        ]),
        Is.EqualTo(["/a b/libtorch_cuda.so"]));

    [Test]
    public void A_missing_library_is_told_with_the_places_that_were_searched()
    {
        Assume.That(CudaRuntime.DeviceCount, Is.Zero, "a GPU machine has NCCL");
        Assert.That(() => NcclLibrary.Load("/nowhere/libnccl.so.2"), Throws.TypeOf<NativeLibraryException>()
            .With.Message.Contains("/nowhere/libnccl.so.2").And.Message.Contains("MOE_NCCL"));
    }

    [TestCase(22803, "2.28.3")]
    [TestCase(21905, "2.19.5")]
    public void Versions_are_read_as_NCCL_counts_them(int code, string text) => Assert.That(NcclLibrary.VersionText(code), Is.EqualTo(text));

    [Test]
    public void The_id_that_is_handed_over_by_value_has_the_size_of_NCCLs()
    {
        Assert.That(Unsafe.SizeOf<NcclUniqueId>(), Is.EqualTo(128));
        Assert.That(Marshal.SizeOf<NcclUniqueId>(), Is.EqualTo(128));
    }

    [Test]
    public void Types_that_can_be_reduced_have_NCCLs_numbers()
    {
        Assert.That(RandomTensors.ReducibleTypes.Select(NcclAbi.TypeOf), Is.EqualTo([(NcclType)2, (NcclType)4, (NcclType)7, (NcclType)8]));
        Assert.That(() => NcclAbi.TypeOf(DType.BFloat16), Throws.ArgumentException);
    }

    [Test]
    public void A_member_without_a_word_is_told_from_one_that_is_behind()
    {
        using var group = new SingleProcessGroup(TimeSpan.FromSeconds(1), name: "world/metrics");
        var last = new CollectiveCall(group, Collective.AllReduce, 12, 3, null, "", 8);
        var account = NcclSession.Account(last, [("world", 5), ("world/a.1", 2)]);
        string Verdict(params string?[] accounts) => NcclSession.Verdict("world/a.1", 3, Pair, rank => accounts[Array.IndexOf(Pair, rank)]);

        Assert.That(Verdict("x\n3 world/a.1", null), Is.EqualTo("no word came from rank 7"));
        Assert.That(Verdict("x\n3 world/a.1", account), Is.EqualTo(
            "rank 7 has not come to it, the last that it started is all_reduce of group 'world/metrics' (call 12, step 3, layer -)"));
        Assert.That(Verdict("x\n3 world/a.1", NcclSession.Account(null, [])), Does.Contain("rank 7 has not come to it, the last that it started is nothing"));
        Assert.That(Verdict("x\n3 world/a.1", "x\n3 world/a.1"), Does.StartWith("every member has started it"));
    }
}

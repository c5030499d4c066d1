using Moe.Tests.Torch;
using Moe.Torch;
using Moe.Training;
using NUnit.Framework;

namespace Moe.Tests.Training;

/// <summary>What is left of memory, by the files of machines of several kinds.</summary>
internal sealed class HostMemoryTests
{
    private const string NoLimit = "9223372036854771712";

    private TemporaryFolder _machine = null!;

    [SetUp]
    public void Open()
    {
        _machine = new TemporaryFolder();
        Put("proc/meminfo", "MemTotal:       2000 kB\nMemFree:          10 kB\nMemAvailable:   1000 kB\n");
    }

    [TearDown]
    public void Close() => _machine.Dispose();

    [Test]
    public void This_host_has_some_memory_left() => Assert.That(new HostMemory().Available(), Is.GreaterThan(1 << 20));

    [Test]
    public void Without_control_groups_the_kernels_estimate_counts() => Assert.That(Available(), Is.EqualTo(1000 * 1024));

    [Test]
    public void Without_any_file_nothing_is_known()
    {
        Directory.Delete(_machine.PathOf("proc"), recursive: true);
        Assert.That(Available(), Is.EqualTo(long.MaxValue));
    }

    [Test]
    public void The_limit_of_a_job_is_found_above_its_step_and_task()
    {
        Put("proc/self/cgroup", "0::/system.slice/slurmstepd.scope/job_17/step_0/user/task_1\n");
        const string Job = "system.slice/slurmstepd.scope/job_17";
        Second($"{Job}/step_0/user/task_1", "max", 100);
        Second($"{Job}/step_0/user", "max", 200);
        Second($"{Job}/step_0", "50000", 2000);
        Second(Job, "40000", 3000, unused: 500);
        Second($"{Job}/step_1", "10", 0);
        Second("system.slice", "max", 900_000);
        Assert.That(Available(), Is.EqualTo(40_000 - 3000 + 500));
    }

    [TestCase("600000", 60_000 - 100)]
    [TestCase("100000", 100_000 - 50_000)]
    [TestCase("max", 60_000 - 100)]
    public void The_level_that_leaves_least_counts(string ofOuter, long expected)
    {
        Put("proc/self/cgroup", "0::/outer/inner\n");
        Second("outer/inner", "60000", 100);
        Second("outer", ofOuter, 50_000);
        Assert.That(Available(), Is.EqualTo(expected));
    }

    [Test]
    public void A_limit_above_the_machines_memory_leaves_the_machines()
    {
        Put("proc/self/cgroup", "0::/job\n");
        Second("job", "900000000", 0);
        Assert.That(Available(), Is.EqualTo(1000 * 1024));
    }

    [Test]
    public void A_group_over_its_limit_has_nothing_left()
    {
        Put("proc/self/cgroup", "0::/job\n");
        Second("job", "1000", 5000, unused: 100);
        Assert.That(Available(), Is.Zero);
    }

    [Test]
    public void In_a_namespace_the_groups_own_folder_is_the_root()
    {
        Put("proc/self/cgroup", "0::/\n");
        Second("", "70000", 7000, unused: 70);
        Assert.That(Available(), Is.EqualTo(63_070));
    }

    [Test]
    public void A_container_that_sees_the_hosts_path_finds_its_limit_where_its_files_are()
    {
        Put("proc/self/cgroup", "5:memory:/docker/a1b2:c3\n0::/docker/a1b2:c3\n");
        First("", "70000", 7000);
        Assert.That(Available(), Is.EqualTo(63_000));
    }

    [TestCase("memory")]
    [TestCase("cpuset,memory")]
    public void The_first_version_is_read_through_its_controller(string controllers)
    {
        Put("proc/self/cgroup", $"9:name=systemd:/other\n4:{controllers}:/slurm/uid_1000/job_17/step_0\n1:cpu:/other\n");
        First("", NoLimit, 9_000_000);
        First("slurm", NoLimit, 8_000_000);
        First("slurm/uid_1000/job_17/step_0", "60000", 1000, unused: 200);
        First("slurm/uid_1000/job_17", "50000", 2000, unused: 300);
        First("other", "10", 0);
        Assert.That(Available(), Is.EqualTo(48_300));
    }

    [Test]
    public void Beside_the_first_version_the_second_has_no_limits_of_its_own()
    {
        Put("proc/self/cgroup", "4:memory:/job\n1:name=systemd:/init.scope\n0::/init.scope\n");
        First("job", "50000", 2000);
        Put("sys/fs/cgroup/unified/init.scope/cgroup.procs", "1\n");
        Assert.That(Available(), Is.EqualTo(48_000));
    }

    [Test]
    public void Beside_the_first_version_the_second_may_hold_the_memory()
    {
        Put("proc/self/cgroup", "4:cpu:/other\n0::/job\n");
        Second("job", "50000", 2000, mount: "sys/fs/cgroup/unified");
        Assert.That(Available(), Is.EqualTo(48_000));
    }

    [TestCase("memory.max")]
    [TestCase("memory.current")]
    public void A_level_that_cannot_be_read_is_passed_over(string file)
    {
        Put("proc/self/cgroup", "0::/outer/inner\n");
        Second("outer", "50000", 2000);
        Second("outer/inner", "1000", 10);
        MakeUnreadable($"sys/fs/cgroup/outer/inner/{file}");
        Assert.That(Available(), Is.EqualTo(48_000));
    }

    [Test]
    public void Without_statistics_all_that_is_used_counts()
    {
        Put("proc/self/cgroup", "0::/job\n");
        Second("job", "50000", 2000, unused: 500);
        MakeUnreadable("sys/fs/cgroup/job/memory.stat");
        Assert.That(Available(), Is.EqualTo(48_000));
    }

    [TestCase("proc/self/cgroup", ExpectedResult = 1000 * 1024)]
    [TestCase("proc/meminfo", ExpectedResult = 48_000)]
    public long What_cannot_be_read_of_the_process_leaves_the_rest(string file)
    {
        Put("proc/self/cgroup", "0::/job\n");
        Second("job", "50000", 2000);
        MakeUnreadable(file);
        return Available();
    }

    [TestCase("")]
    [TestCase("\n")]
    [TestCase("nothing of this kind\n1:2\n0::\n")]
    public void Lines_of_no_group_leave_the_kernels_estimate(string lines)
    {
        Put("proc/self/cgroup", lines);
        Assert.That(Available(), Is.EqualTo(1000 * 1024));
    }

    [Test]
    public void A_limit_that_is_moved_counts_at_the_next_reading()
    {
        Put("proc/self/cgroup", "0::/job\n");
        Second("job", "50000", 2000);
        var group = new ControlGroupMemory(_machine.PathOf(""));
        Assert.That(group.Left(), Is.EqualTo(48_000));
        Second("job", "30000", 1000);
        Assert.That(group.Left(), Is.EqualTo(29_000));
        Second("job", "max", 1000);
        Assert.That(group.Left(), Is.Null);
    }

    [Test]
    public void What_the_heap_holds_unused_comes_on_top_of_the_share_of_the_kernels() =>
        Assert.That(new HostMemory(_machine.PathOf(""), processes: 4, () => new HeapMemory(900, 70)).Available(), Is.EqualTo((250 * 1024) + 70));

    [Test]
    public void Between_two_readings_what_the_heap_takes_is_gone_and_what_it_gives_back_is_there()
    {
        var heap = new HeapMemory(5000, 300);
        var memory = new HostMemory(_machine.PathOf(""), processes: 2, () => heap);
        var first = memory.Available();
        heap = new HeapMemory(5000, 100); // 200 came out of the heap itself
        Assert.That(memory.Available(), Is.EqualTo(first - 200));
        heap = new HeapMemory(6000, 0);
        Assert.That(memory.Available(), Is.EqualTo(first - 300 - 1000));
        heap = new HeapMemory(4000, 0);
        Assert.That(memory.Available(), Is.EqualTo(first - 300 + 1000));
        heap = new HeapMemory(5_000_000, 40);
        Assert.That(memory.Available(), Is.EqualTo(40));
    }

    [Test]
    public void Where_nothing_is_known_of_the_kernel_the_heap_does_not_matter()
    {
        Directory.Delete(_machine.PathOf("proc"), recursive: true);
        Assert.That(new HostMemory(_machine.PathOf(""), heap: () => new HeapMemory(900, 70)).Available(), Is.EqualTo(long.MaxValue));
    }

    private long Available() => new HostMemory(_machine.PathOf(""), heap: () => default).Available();

    private void Second(string group, string limit, long used, long unused = 0, string mount = "sys/fs/cgroup")
    {
        Put($"{mount}/{group}/memory.max", $"{limit}\n");
        Put($"{mount}/{group}/memory.current", $"{used}\n");
        Put($"{mount}/{group}/memory.stat", $"anon 5\nactive_file 7\ninactive_file {unused}\ninactive_file_other 9\n");
    }

    private void First(string group, string limit, long used, long unused = 0)
    {
        const string Mount = "sys/fs/cgroup/memory";
        Put($"{Mount}/{group}/memory.limit_in_bytes", $"{limit}\n");
        Put($"{Mount}/{group}/memory.usage_in_bytes", $"{used}\n");
        Put($"{Mount}/{group}/memory.stat", $"inactive_file 5\nhierarchical_memory_limit 9\ntotal_inactive_file {unused}\n");
    }

    private void Put(string file, string text)
    {
        var path = _machine.PathOf(file);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }

    // The superuser may read any file, but nobody a folder in its place.
    private void MakeUnreadable(string file)
    {
        File.Delete(_machine.PathOf(file));
        Directory.CreateDirectory(_machine.PathOf(file));
    }
}

using System.Diagnostics;
using Moe.Training.Tracking;
using NUnit.Framework;

namespace Moe.Tests.Tracking;

/// <summary>The load of this machine, and of GPUs that a stand-in for NVIDIA's library reports.</summary>
internal sealed class MachineLoadTests
{
    // Two devices, of which the second has no power meter; the functions and structures are those of nvml.h.
    private const string Library = """
        typedef struct { unsigned long long total, free, used; } memory_t;
        typedef struct { unsigned int gpu, memory; } rates_t;
        static int devices[2];
        int nvmlInit_v2(void) { return 0; }
        int nvmlShutdown(void) { return 0; }
        int nvmlDeviceGetCount_v2(unsigned int* n) { *n = 2; return 0; }
        int nvmlDeviceGetHandleByIndex_v2(unsigned int i, void** d) { *d = &devices[i]; return 0; }
        int nvmlDeviceGetMemoryInfo(void* d, memory_t* m) { m->total = 80000000000ull; m->used = 20000000000ull; m->free = m->total - m->used; return 0; }
        int nvmlDeviceGetUtilizationRates(void* d, rates_t* r) { r->gpu = 93; r->memory = 41; return 0; }
        int nvmlDeviceGetPowerUsage(void* d, unsigned int* p) { *p = 350500; return d == &devices[1] ? 3 : 0; }
        int nvmlDeviceGetEnforcedPowerLimit(void* d, unsigned int* p) { *p = 701000; return 0; }
        """;

    private string _folder = "";

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("moe-nvml-").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public void Shares_lie_between_nothing_and_all_and_sizes_fit_them()
    {
        using var load = new MachineLoad("node 0", _folder, gpus: null);
        for (var clock = Stopwatch.StartNew(); clock.ElapsedMilliseconds < 150;)
        {
            // keeps a core busy
        }

        var sample = load.Sample();
        Assert.That(sample.Keys, Is.All.StartsWith("system/node 0/"));
        Assert.That(sample["system/node 0/cpu_utilization_percentage"], Is.InRange(1, 100));
        var (used, share) = (sample["system/node 0/system_memory_usage_megabytes"], sample["system/node 0/system_memory_usage_percentage"]);
        Assert.That(100 * used / share, Is.EqualTo(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 1e6).Within(5).Percent, "all of the memory");
        Assert.That(sample["system/node 0/disk_usage_percentage"], Is.InRange(0, 100));
        Assert.That(sample["system/node 0/network_receive_megabytes"], Is.GreaterThanOrEqualTo(0));
        Assert.That(sample, Has.Count.EqualTo(8));
    }

    [Test]
    public void Gpus_are_read_through_nvidias_library()
    {
        var library = Compile();
        using var nvml = Nvml.TryLoad(library);
        Assert.That(nvml!.Read(), Is.EqualTo(new[]
        {
            (0, new GpuLoad(20e9, 80e9, 93, 350.5, 701)),
            (1, new GpuLoad(20e9, 80e9, 93, double.NaN, 701)),
        }));
    }

    [Test]
    public void Gpus_have_mlflows_names_and_units()
    {
        using var load = new MachineLoad(null, _folder, Nvml.TryLoad(Compile()));
        Assert.That(load.Sample().Where(entry => entry.Key.Contains("gpu", StringComparison.Ordinal)), Is.EquivalentTo(new Dictionary<string, double>
        {
            ["system/gpu_0_memory_usage_percentage"] = 25,
            ["system/gpu_0_memory_usage_megabytes"] = 20000,
            ["system/gpu_0_utilization_percentage"] = 93,
            ["system/gpu_0_power_usage_watts"] = 350.5,
            ["system/gpu_0_power_usage_percentage"] = 50,
            ["system/gpu_1_memory_usage_percentage"] = 25,
            ["system/gpu_1_memory_usage_megabytes"] = 20000,
            ["system/gpu_1_utilization_percentage"] = 93,
        }));
    }

    [Test]
    public void Machine_without_the_library_has_no_gpus() => Assert.That(Nvml.TryLoad(Path.Combine(_folder, "libnothing.so")), Is.Null);

    private string Compile()
    {
        var (source, library) = (Path.Combine(_folder, "nvml.c"), Path.Combine(_folder, "libnvml.so"));
        File.WriteAllText(source, Library);
        try
        {
            using var compiler = Process.Start(new ProcessStartInfo("gcc", ["-shared", "-fPIC", "-w", "-o", library, source]))!;
            compiler.WaitForExit();
            Assert.That(compiler.ExitCode, Is.Zero);
        }
        catch (System.ComponentModel.Win32Exception)
        {
            Assert.Ignore("there is no gcc to build the stand-in with");
        }

        return library;
    }
}

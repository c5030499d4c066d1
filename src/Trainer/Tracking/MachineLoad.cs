using System.Globalization;

namespace Moe.Training.Tracking;

/// <summary>The load of this machine under MLflow's names, from /proc, the file system and NVML. Units as MLflow has them: a megabyte is 10^6 bytes.</summary>
/// <remarks>Not thread-safe. Processor load is that since the sample before, network traffic that since the start.</remarks>
internal sealed class MachineLoad : IDisposable
{
    private const double Mega = 1e6;
    private const double Kibi = 1024;

    private readonly string _prefix;
    private readonly string _disk;
    private readonly Nvml? _gpus;
    private readonly (double Received, double Sent) _networkAtStart = Network();
    private (double Busy, double All) _processor = Processor();

    /// <param name="node">Name of this machine for the metrics' names; null for none.</param>
    /// <param name="disk">A folder of the file system that is watched.</param>
    /// <param name="gpus">Disposed with this; null where there are none.</param>
    public MachineLoad(string? node, string disk, Nvml? gpus)
    {
        _prefix = node is null ? "system/" : $"system/{MlflowLimits.CleanKey(node)}/";
        _disk = disk;
        _gpus = gpus;
    }

    /// <summary>The load now, rounded to one digit.</summary>
    public Dictionary<string, double> Sample()
    {
        var sample = new Dictionary<string, double>();
        var processor = Processor();
        Add("cpu_utilization_percentage", 100 * (processor.Busy - _processor.Busy) / Math.Max(1, processor.All - _processor.All));
        _processor = processor;

        var (total, available) = Memory();
        Add("system_memory_usage_megabytes", (total - available) / Mega);
        Add("system_memory_usage_percentage", 100 * (total - available) / total);

        var disk = new DriveInfo(_disk);
        double used = disk.TotalSize - disk.TotalFreeSpace;
        Add("disk_usage_percentage", 100 * used / (used + disk.AvailableFreeSpace));
        Add("disk_usage_megabytes", used / Mega);
        Add("disk_available_megabytes", disk.AvailableFreeSpace / Mega);

        var network = Network();
        Add("network_receive_megabytes", (network.Received - _networkAtStart.Received) / Mega);
        Add("network_transmit_megabytes", (network.Sent - _networkAtStart.Sent) / Mega);

        foreach (var (index, gpu) in _gpus?.Read() ?? [])
        {
            Add($"gpu_{index}_memory_usage_percentage", 100 * gpu.MemoryUsed / gpu.MemoryTotal);
            Add($"gpu_{index}_memory_usage_megabytes", gpu.MemoryUsed / Mega);
            Add($"gpu_{index}_utilization_percentage", gpu.Utilization);
            Add($"gpu_{index}_power_usage_watts", gpu.Power);
            Add($"gpu_{index}_power_usage_percentage", 100 * gpu.Power / gpu.PowerLimit);
        }

        return sample;

        // What cannot be measured is left out.
        void Add(string name, double value)
        {
            if (double.IsFinite(value))
            {
                sample[_prefix + name] = Math.Round(value, 1);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _gpus?.Dispose();

    // user nice system idle iowait irq softirq steal, in ticks; guests are counted in user already.
    private static (double Busy, double All) Processor()
    {
        var ticks = File.ReadLines("/proc/stat").First().Split(' ', StringSplitOptions.RemoveEmptyEntries).Skip(1).Take(8).Select(Number).ToList();
        var all = ticks.Sum();
        return (all - ticks[3] - ticks[4], all);
    }

    private static (double Total, double Available) Memory()
    {
        var sizes = File.ReadLines("/proc/meminfo").Select(line => line.Split(':')).ToDictionary(pair => pair[0], pair => Number(pair[1].Replace("kB", "", StringComparison.Ordinal)));
        return (sizes["MemTotal"] * Kibi, sizes["MemAvailable"] * Kibi);
    }

    private static (double Received, double Sent) Network()
    {
        var interfaces = File.ReadLines("/proc/net/dev").Skip(2)
            .Select(line => line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries)).ToList();
        return (interfaces.Sum(fields => Number(fields[0])), interfaces.Sum(fields => Number(fields[8])));
    }

    private static double Number(string text) => double.Parse(text, CultureInfo.InvariantCulture);
}

using System.Diagnostics;
using System.Globalization;

namespace Moe.Training;

/// <summary>Memory of the host that may still be taken.</summary>
internal sealed class HostMemory
{
    private const long Kibi = 1024;
    private const string Info = "/proc/meminfo";
    private const string Limit = "/sys/fs/cgroup/memory.max", Used = "/sys/fs/cgroup/memory.current", Statistics = "/sys/fs/cgroup/memory.stat";

    // The kernel takes up to a millisecond to answer, and a layer of a small model little more to compute.
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private long _available;
    private long? _askedAt;

    /// <summary>
    /// Bytes that the kernel would give to new work, at most those of the control group's limit, as they were within the last second; <see cref="long.MaxValue"/>
    /// where it doesn't say.
    /// </summary>
    public long Available()
    {
        if (_askedAt is not { } then || Stopwatch.GetElapsedTime(then) > Interval)
        {
            _askedAt = Stopwatch.GetTimestamp();
            _available = Math.Min(File.Exists(Info) ? Number(Info, "MemAvailable:") * Kibi : long.MaxValue, OfControlGroup() ?? long.MaxValue);
        }

        return _available;
    }

    // Pages of files that nobody uses count as used, but are given back on demand.
    private static long? OfControlGroup() =>
        File.Exists(Limit) && File.Exists(Used) && long.TryParse(File.ReadAllText(Limit), CultureInfo.InvariantCulture, out var limit)
            ? limit - long.Parse(File.ReadAllText(Used), CultureInfo.InvariantCulture) + Number(Statistics, "inactive_file")
            : null;

    private static long Number(string file, string name) => File.ReadLines(file)
        .Where(line => line.StartsWith(name, StringComparison.Ordinal))
        .Select(line => long.Parse(line[name.Length..].Replace("kB", "", StringComparison.Ordinal), CultureInfo.InvariantCulture))
        .First();
}

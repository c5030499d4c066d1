using System.Globalization;

namespace Moe.Training;

/// <summary>Memory of the host that may still be taken.</summary>
internal static class HostMemory
{
    private const long Kibi = 1024;
    private const string Info = "/proc/meminfo";
    private const string Limit = "/sys/fs/cgroup/memory.max", Used = "/sys/fs/cgroup/memory.current", Statistics = "/sys/fs/cgroup/memory.stat";

    /// <summary>Bytes that the kernel would give to new work, at most those of the control group's limit; <see cref="long.MaxValue"/> where it doesn't say.</summary>
    public static long Available() => Math.Min(
        File.Exists(Info) ? Number(File.ReadLines(Info), "MemAvailable:") * Kibi : long.MaxValue,
        OfControlGroup() ?? long.MaxValue);

    // Pages of files that nobody uses count as used, but are given back on demand.
    private static long? OfControlGroup() =>
        File.Exists(Limit) && File.Exists(Used) && long.TryParse(File.ReadAllText(Limit), CultureInfo.InvariantCulture, out var limit)
            ? limit - long.Parse(File.ReadAllText(Used), CultureInfo.InvariantCulture) + Number(File.ReadLines(Statistics), "inactive_file")
            : null;

    private static long Number(IEnumerable<string> lines, string name) => lines
        .Where(line => line.StartsWith(name, StringComparison.Ordinal))
        .Select(line => long.Parse(line[name.Length..].Replace("kB", "", StringComparison.Ordinal), CultureInfo.InvariantCulture))
        .First();
}

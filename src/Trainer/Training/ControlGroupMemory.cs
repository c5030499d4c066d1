namespace Moe.Training;

/// <summary>What the memory limits of this process's control group, and of all groups around it, leave.</summary>
/// <remarks>
/// A batch system limits the group of a job, a container's engine that of the container, and a process stands some levels below. Which files there are is asked
/// once, as a process stays in its group; what they say, each time, as limits may be moved.
/// </remarks>
internal sealed class ControlGroupMemory
{
    // Where the second version is mounted: alone, or beside the first.
    private static readonly string[] Unified = ["sys/fs/cgroup", "sys/fs/cgroup/unified"];

    private readonly Level[] _levels;

    /// <param name="root">Folder of <c>proc</c> and <c>sys</c>.</param>
    internal ControlGroupMemory(string root) => _levels =
    [
        .. (ProcFile.Read(Path.Combine(root, "proc/self/cgroup")) ?? "").Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .SelectMany(line => LevelsOf(root, line)).Where(level => File.Exists(level.Limit)),
    ];

    /// <summary>Bytes that the tightest limit leaves; null where there is none. Files in memory that nobody uses count as used, but are given back on demand.</summary>
    internal long? Left() => _levels.Min(level => level.Left());

    // A line is number:controllers:path, the second version's without controllers.
    private static IEnumerable<Level> LevelsOf(string root, string line) => line.Split(':', 3) switch
    {
        ["0", "", var path] => Unified.SelectMany(mount => Folders(Path.Combine(root, mount), path))
            .Select(folder => new Level(folder, "memory.max", "memory.current", "inactive_file")),
        [_, var controllers, var path] when controllers.Split(',').Contains("memory") => Folders(Path.Combine(root, "sys/fs/cgroup/memory"), path)
            .Select(folder => new Level(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")),
        _ => [],
    };

    // From the process's own group up to what is mounted. In a container the path may be the host's, of which only the end of the walk exists.
    private static IEnumerable<string> Folders(string mount, string path)
    {
        for (var group = path.Trim('/'); group.Length > 0; group = group[..Math.Max(0, group.LastIndexOf('/'))])
        {
            yield return Path.Combine(mount, group);
        }

        yield return mount;
    }

    /// <summary>A group: its folder, the names of its files, and the name in its memory.stat of the bytes of unused files, in it and below.</summary>
    private sealed class Level(string folder, string limit, string used, string unused)
    {
        // The first version has no word for "no limit", but the largest number of whole pages.
        private const long NoLimit = long.MaxValue / 2;

        private readonly string _used = Path.Combine(folder, used), _statistics = Path.Combine(folder, "memory.stat");

        internal string Limit { get; } = Path.Combine(folder, limit);

        // Statistics take the kernel longest, and are asked for only where there is a limit.
        internal long? Left() => ProcFile.Number(Limit) is { } most and < NoLimit && ProcFile.Number(_used) is { } taken
            ? Math.Max(0, most - taken + (ProcFile.Number(_statistics, unused) ?? 0))
            : null;
    }
}

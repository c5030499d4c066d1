using System.Diagnostics;

namespace Moe.Training;

/// <summary>Memory of the host that may still be taken.</summary>
/// <param name="root">Folder of <c>proc</c> and <c>sys</c>.</param>
internal sealed class HostMemory(string root = "/")
{
    private const long Kibi = 1024;

    // The kernel takes up to a millisecond to answer, and a layer of a small model little more to compute.
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private readonly string _info = Path.Combine(root, "proc/meminfo");
    private readonly ControlGroupMemory _group = new(root);

    private long _available;
    private long? _askedAt;

    /// <summary>
    /// Bytes that the kernel would give to new work, at most what the limits of this process's control group and of those around it leave, as they were within the
    /// last second; <see cref="long.MaxValue"/> where nothing says.
    /// </summary>
    public long Available()
    {
        if (_askedAt is not { } then || Stopwatch.GetElapsedTime(then) > Interval)
        {
            _askedAt = Stopwatch.GetTimestamp();
            var ofMachine = ProcFile.Number(_info, "MemAvailable:") * Kibi ?? long.MaxValue;
            _available = Math.Min(ofMachine, _group.Left() ?? long.MaxValue);
        }

        return _available;
    }
}

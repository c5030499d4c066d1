using System.Diagnostics;
using Moe.Torch;

namespace Moe.Training;

/// <summary>Memory of the host that this process may still take.</summary>
/// <param name="root">Folder of <c>proc</c> and <c>sys</c>.</param>
/// <param name="processes">That share what the kernel has left.</param>
/// <param name="heap">Of this process; left out, as it is.</param>
internal sealed class HostMemory(string root = "/", int processes = 1, Func<HeapMemory>? heap = null)
{
    private const long Kibi = 1024;

    // The kernel takes up to a millisecond to answer, and a layer of a small model little more to compute; malloc takes less than a tenth of that.
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    private readonly string _info = Path.Combine(root, "proc/meminfo");
    private readonly ControlGroupMemory _group = new(root);
    private readonly Func<HeapMemory> _heap = heap ?? (() => TorchRuntime.Heap);

    private long _left; // by the kernel, when it was asked
    private long _held; // by the heap then
    private long? _askedAt;

    /// <summary>
    /// Bytes that new tensors may take: the share of what the kernel would give to new work, or of what the limits of this process's control group and of those around
    /// it leave where that is less, and what the heap holds unused. <see cref="long.MaxValue"/> where nothing says.
    /// </summary>
    /// <remarks>The kernel is asked once a second. What the heap takes of it until the next time is subtracted.</remarks>
    public long Available()
    {
        var now = _heap();
        if (_askedAt is not { } then || Stopwatch.GetElapsedTime(then) > Interval)
        {
            _askedAt = Stopwatch.GetTimestamp();
            var ofMachine = ProcFile.Number(_info, "MemAvailable:") * Kibi ?? long.MaxValue;
            (_left, _held) = (Math.Min(ofMachine, _group.Left() ?? long.MaxValue), now.Held);
        }

        return _left == long.MaxValue ? long.MaxValue : Math.Max(0, (_left / processes) - (now.Held - _held)) + now.Unused;
    }
}

using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>
/// Counts the host memory that this thread's tensors take, as libtorch's allocator hands it out, from its making to its end: what a graph
/// keeps for backward, libtorch's own operators included. One a thread at a time; what was there before is not counted, nor its freeing.
/// </summary>
public sealed class HostMemoryCount : IDisposable
{
    /// <summary>Begins to count.</summary>
    public HostMemoryCount() => Abi.Check(Abi.CountHostMemory());

    /// <summary>Bytes now, and at most since the last call.</summary>
    public static (long Now, long Peak) Read()
    {
        Abi.Check(Abi.CountedHostMemory(out var bytes, out var most));
        return (bytes, most);
    }

    /// <inheritdoc/>
    public void Dispose() => Abi.Check(Abi.StopCountingHostMemory());
}

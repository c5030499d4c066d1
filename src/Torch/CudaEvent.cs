using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>A mark in the work of a device's current stream, for measuring the time between two of them.</summary>
public sealed class CudaEvent : IDisposable
{
    private nint _handle;

    /// <exception cref="TorchException">There is no CUDA.</exception>
    public CudaEvent() => Abi.Check(Abi.CudaEventCreate(out _handle));

    /// <summary>Sets the mark behind all work that was queued so far.</summary>
    public void Record() => Abi.Check(Abi.CudaEventRecord(_handle));

    /// <summary>Time from this mark to a later one; waits for that.</summary>
    public TimeSpan Until(CudaEvent later)
    {
        Abi.Check(Abi.CudaEventElapsed(_handle, later._handle, out var milliseconds));
        return TimeSpan.FromMilliseconds(milliseconds);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_handle != 0)
        {
            Abi.Check(Abi.CudaEventFree(_handle));
            _handle = 0;
        }
    }
}

using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>A mark in the work of a device's stream: for measuring the time between two of them, and for having one stream wait for another.</summary>
public sealed class CudaEvent : IDisposable
{
    private nint _handle;

    /// <exception cref="TorchException">There is no CUDA.</exception>
    public CudaEvent() => Abi.Check(Abi.CudaEventCreate(out _handle));

    /// <summary>Sets the mark behind all work that was queued so far.</summary>
    public void Record() => Abi.Check(Abi.CudaEventRecord(_handle));

    /// <summary>Sets the mark behind all work that was queued to a stream so far.</summary>
    public void RecordOn(CudaStream stream) => Abi.Check(Abi.CudaEventRecordOn(_handle, stream.Handle));

    /// <summary>Whether the work before the mark is done; true where no mark was set.</summary>
    /// <exception cref="TorchException">The device failed.</exception>
    public bool IsDone
    {
        get
        {
            Abi.Check(Abi.CudaEventQuery(_handle, out var done));
            return done != 0;
        }
    }

    /// <summary>Has the current stream wait for the mark; the host goes on.</summary>
    public void Await() => Abi.Check(Abi.CudaEventAwait(_handle));

    /// <summary>Has another stream wait for the mark; the host goes on.</summary>
    public void AwaitOn(CudaStream stream) => Abi.Check(Abi.CudaStreamAwait(stream.Handle, _handle));

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

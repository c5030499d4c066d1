using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>Work of a device that was noted once and is done again by one call, with the same tensors: for the host, a step's hundreds of launches become one.</summary>
/// <remarks>
/// What the work allocates comes from memory of the graph's own and stands at the same addresses each time; tensors that outlive the capture hold the results of
/// the latest <see cref="Replay"/>. Work that waits for the device, or that copies from or to pageable host memory, can't be captured.
/// </remarks>
public sealed class CudaGraph : IDisposable
{
    private nint _handle;

    private CudaGraph(nint handle) => _handle = handle;

    /// <summary>Notes work of the thread's device, backward included, without doing it.</summary>
    /// <param name="work">Runs once, on this thread. It should have run before, so that libraries have made their plans.</param>
    /// <exception cref="TorchException">Something in it can't be captured; then nothing was done.</exception>
    public static CudaGraph Capture(Action work)
    {
        Abi.Check(Abi.GraphBegin(out var handle));
        try
        {
            work();
        }
        catch
        {
            // What went wrong in the work says more than what the end of the capture makes of it.
            _ = Abi.GraphEnd(handle);
            Abi.Check(Abi.GraphFree(handle));
            throw;
        }

        var status = Abi.GraphEnd(handle);
        if (status != 0)
        {
            try
            {
                Abi.Check(status);
            }
            finally
            {
                _ = Abi.GraphFree(handle);
            }
        }

        return new CudaGraph(handle);
    }

    /// <summary>Queues the work to the device.</summary>
    /// <exception cref="TorchException">The launch failed.</exception>
    public void Replay() => Abi.Check(Abi.GraphReplay(_handle));

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_handle != 0)
        {
            Abi.Check(Abi.GraphFree(_handle));
            _handle = 0;
        }
    }
}

using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>A queue of work beside libtorch's own streams, for what other libraries launch: of the highest priority, and waiting for no other stream unless told to.</summary>
#pragma warning disable CA1711 // CUDA's own word for it; not a System.IO.Stream.
public sealed class CudaStream : IDisposable
#pragma warning restore CA1711
{
    /// <summary>A stream of the thread's device.</summary>
    /// <exception cref="TorchException">There is no CUDA.</exception>
    public CudaStream()
    {
        Abi.Check(Abi.CudaStreamCreate(out var handle));
        Handle = handle;
    }

    /// <summary>The cudaStream_t.</summary>
    public nint Handle { get; private set; }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (Handle != 0)
        {
            Abi.Check(Abi.CudaStreamFree(Handle));
            Handle = 0;
        }
    }
}

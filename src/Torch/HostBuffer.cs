using System.Runtime.InteropServices;
using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>Host memory that a device copies to and from by itself, hence never paged out; plain memory beside tensors of the host.</summary>
internal sealed unsafe class HostBuffer : IDisposable
{
    private readonly bool _pinned;

    /// <exception cref="TorchException">The host has not so much memory to spare.</exception>
    public HostBuffer(long bytes, bool pinned)
    {
        (Bytes, _pinned) = (bytes, pinned);
        if (pinned)
        {
            Abi.Check(Abi.CudaHostAllocate(bytes, out var address));
            Address = address;
        }
        else
        {
            Address = (nint)NativeMemory.Alloc((nuint)bytes);
        }
    }

    public long Bytes { get; }

    public nint Address { get; private set; }

    public void Dispose()
    {
        if (Address == 0)
        {
            return;
        }

        if (_pinned)
        {
            Abi.Check(Abi.CudaHostFree(Address));
        }
        else
        {
            NativeMemory.Free((void*)Address);
        }

        Address = 0;
    }
}

using System.Runtime.InteropServices;
using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>A CUDA device of this machine.</summary>
/// <param name="Name">As in <c>NVIDIA H100 80GB HBM3</c>.</param>
/// <param name="Capability">Compute capability times ten: 90 for Hopper.</param>
/// <param name="Processors">Streaming multiprocessors.</param>
/// <param name="Bytes">Of its memory.</param>
public sealed record CudaDevice(string Name, int Capability, int Processors, long Bytes);

/// <summary>Memory of a device as libtorch's allocator counts it, in bytes.</summary>
/// <param name="Allocated">In tensors now.</param>
/// <param name="Peak">In tensors at most, since the last <see cref="CudaRuntime.ResetPeak"/>.</param>
/// <param name="PeakReserved">Held by the allocator at most, since then.</param>
/// <param name="Free">Free on the device, for all processes.</param>
/// <param name="Total">The device's.</param>
public readonly record struct CudaMemory(long Allocated, long Peak, long PeakReserved, long Free, long Total);

/// <summary>CUDA devices of this process: how many, which one is used, their memory, and when their work is done.</summary>
public static class CudaRuntime
{
    /// <summary>Devices that this process sees; 0 without a GPU, a driver, or a native library with CUDA.</summary>
    public static int DeviceCount
    {
        get
        {
            Abi.Check(Abi.CudaDevices(out var count));
            return count;
        }
    }

    /// <summary>Has the calling thread work on a device.</summary>
    /// <exception cref="TorchException">There is none of that index.</exception>
    public static void Use(Device device) => Abi.Check(Abi.CudaUse(device.Index));

    /// <summary>What a device is.</summary>
    /// <exception cref="TorchException">There is none of that index.</exception>
    public static unsafe CudaDevice Describe(Device device)
    {
        var name = stackalloc byte[256];
        Abi.Check(Abi.CudaDescribe(device.Index, name, out var capability, out var processors, out var bytes));
        return new CudaDevice(Marshal.PtrToStringUTF8((nint)name)!, capability, processors, bytes);
    }

    /// <summary>Begins to note every operator of the host's threads and every kernel of the devices.</summary>
    /// <exception cref="TorchException">This libtorch has no such profiler.</exception>
    public static void BeginProfile() => Abi.Check(Abi.ProfileBegin());

    /// <summary>Writes what was noted in Chrome's trace format, which chrome://tracing and Perfetto draw.</summary>
    public static void EndProfile(string path) => Abi.Check(Abi.ProfileEnd(path));

    /// <summary>Waits for all work of the thread's device.</summary>
    public static void Synchronize() => Abi.Check(Abi.CudaSynchronize());

    /// <summary>Memory in use.</summary>
    public static CudaMemory Memory(Device device)
    {
        Abi.Check(Abi.CudaMemory(device.Index, out var allocated, out var peak, out var reserved, out var free, out var total));
        return new CudaMemory(allocated, peak, reserved, free, total);
    }

    /// <summary>Bytes that new tensors on a device may take: what is free there, and what the allocator holds without a tensor in it.</summary>
    public static long Available(Device device)
    {
        Abi.Check(Abi.CudaAvailable(device.Index, out var bytes));
        return bytes;
    }

    /// <summary>Lets the peaks of <see cref="Memory"/> count from now on.</summary>
    public static void ResetPeak(Device device) => Abi.Check(Abi.CudaResetPeak(device.Index));
}

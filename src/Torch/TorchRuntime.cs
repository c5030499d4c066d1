using System.Runtime.InteropServices;
using Moe.Torch.Native;

namespace Moe.Torch;

/// <summary>Memory of this process that malloc gives out, in bytes; zeros where the C library doesn't tell (glibc does from 2.33 on).</summary>
/// <param name="Held">What it has of the kernel.</param>
/// <param name="Unused">Of that, what the next tensors may take.</param>
public readonly record struct HeapMemory(long Held, long Unused);

/// <summary>What holds for the whole process: the version of libtorch, its threads, and memory.</summary>
public static class TorchRuntime
{
    /// <summary>Version of the libtorch that the native library was built against, as in <c>1.13.0</c>.</summary>
    /// <exception cref="NativeLibraryException">The native library was not built.</exception>
    public static unsafe string Version => Marshal.PtrToStringUTF8((nint)Abi.TorchVersion())!;

    /// <summary>
    /// Keeps the memory of freed tensors in the process instead of giving it back to the kernel, as far as the C library lets it: for a process that
    /// trains, whose steps all need the same again. To be called before the first tensor is made.
    /// </summary>
    public static void KeepFreedMemory() => Abi.Check(Abi.KeepFreedMemory());

    /// <summary>What malloc holds now.</summary>
    public static HeapMemory Heap
    {
        get
        {
            Abi.Check(Abi.Heap(out var held, out var unused));
            return new HeapMemory(held, unused);
        }
    }

    /// <summary>Threads that one operator uses, at least 1. To be set before the first operator runs.</summary>
    public static int Threads
    {
        get
        {
            Abi.Check(Abi.GetThreads(out var threads));
            return threads;
        }
        set => Abi.Check(Abi.SetThreads(value));
    }
}

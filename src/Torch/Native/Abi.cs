using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

[assembly: DisableRuntimeMarshalling]

namespace Moe.Torch.Native;

/// <summary>An argument or a result of <see cref="Abi.Call"/>, laid out as the shim's <c>Value</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeValue
{
    public ArgumentTag Tag;
    public int Length;
    public long Bits;
}

/// <summary>What managed code does for a node of the graph, laid out as the shim's <c>Callbacks</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct NodeCallbacks
{
    public delegate* unmanaged<nint, nint*, int, nint*, int, int> Backward;
    public delegate* unmanaged<nint, void> ReleaseSaved;
    public delegate* unmanaged<nint, void> Release;
}

internal enum ArgumentTag
{
    None,
    Tensor,
    Int,
    Double,
    Bool,
    IntList,
    TensorList,
    String,
}

/// <summary>The exports of libmoe_torch for tensors and autograd, one to one. Each call is checked where it is made: <c>Abi.Check(Abi.Call(...))</c>.</summary>
internal static unsafe partial class Abi
{
    public const int MaxRank = 8;
    private const string Library = "moe_torch";

    static Abi()
    {
        NativeFolder.ResolveFor(typeof(Abi).Assembly);
        NativeFolder.CheckAbi(Library, moe_abi());
    }

    public static void Check(int status)
    {
        if (status != 0)
        {
            throw new TorchException(Marshal.PtrToStringUTF8((nint)moe_last_error())!);
        }
    }

    [LibraryImport(Library)]
    private static partial int moe_abi();

    [LibraryImport(Library)]
    private static partial byte* moe_last_error();

    [LibraryImport(Library, EntryPoint = "moe_torch_version")]
    public static partial byte* TorchVersion();

    [LibraryImport(Library, EntryPoint = "moe_set_threads")]
    public static partial int SetThreads(int threads);

    [LibraryImport(Library, EntryPoint = "moe_get_threads")]
    public static partial int GetThreads(out int threads);

    [LibraryImport(Library, EntryPoint = "moe_keep_freed_memory")]
    public static partial int KeepFreedMemory();

    [LibraryImport(Library, EntryPoint = "moe_heap")]
    public static partial int Heap(out long held, out long unused);

    [LibraryImport(Library, EntryPoint = "moe_find_operator", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int FindOperator(string name, string overload, out nint found);

    [LibraryImport(Library, EntryPoint = "moe_call")]
    public static partial int Call(nint target, NativeValue* arguments, int count, NativeValue* results, int capacity, out int returned);

    [LibraryImport(Library, EntryPoint = "moe_tensor_release")]
    public static partial int Release(nint handle);

    [LibraryImport(Library, EntryPoint = "moe_tensor_share")]
    public static partial int Share(nint handle, out nint shared);

    [LibraryImport(Library, EntryPoint = "moe_tensor_empty")]
    public static partial int Empty(long* shape, int rank, int dtype, int device, out nint handle);

    [LibraryImport(Library, EntryPoint = "moe_tensor_describe")]
    public static partial int Describe(
        nint handle, long* shape, long* strides, int capacity, out int rank, out int dtype, out int device, out int contiguous);

    [LibraryImport(Library, EntryPoint = "moe_tensor_data")]
    public static partial int Data(nint handle, out nint data);

    [LibraryImport(Library, EntryPoint = "moe_on_gradient")]
    public static partial int OnGradient(nint tensor, delegate* unmanaged<nint, int> callback, delegate* unmanaged<nint, void> release, nint context);

    [LibraryImport(Library, EntryPoint = "moe_optimizer_prepare")]
    public static partial int OptimizerPrepare(int rule, nint* tensors, int slots, long count, nint* copies, out nint prepared);

    [LibraryImport(Library, EntryPoint = "moe_adds_up_wide")]
    public static partial int AddsUpWide(out int wide);

    [LibraryImport(Library, EntryPoint = "moe_optimizer_run")]
    public static partial int OptimizerRun(nint prepared, double* coefficients, long coefficientCount);

    [LibraryImport(Library, EntryPoint = "moe_optimizer_release")]
    public static partial int OptimizerRelease(nint prepared);

    [LibraryImport(Library, EntryPoint = "moe_square_sums")]
    public static partial int SquareSums(nint* tensors, long count, out nint sums);

    [LibraryImport(Library, EntryPoint = "moe_grad_mode")]
    public static partial int SetGradMode(int enabled, out int before);

    [LibraryImport(Library, EntryPoint = "moe_requires_grad")]
    public static partial int RequiresGrad(nint handle, out int requires);

    [LibraryImport(Library, EntryPoint = "moe_set_requires_grad")]
    public static partial int SetRequiresGrad(nint handle, int requires);

    [LibraryImport(Library, EntryPoint = "moe_gradient")]
    public static partial int Gradient(nint handle, out nint gradient);

    [LibraryImport(Library, EntryPoint = "moe_set_gradient")]
    public static partial int SetGradient(nint handle, nint gradient);

    [LibraryImport(Library, EntryPoint = "moe_backward")]
    public static partial int Backward(nint* roots, nint* seeds, int count);

    [LibraryImport(Library, EntryPoint = "moe_watch_backward")]
    public static partial int WatchBackward(nint handle, delegate* unmanaged<long, int, void> watcher, long context);

    [LibraryImport(Library, EntryPoint = "moe_attach_backward")]
    public static partial int AttachBackward(
        nint* inputs,
        int inputCount,
        nint* outputs,
        int outputCount,
        NodeCallbacks callbacks,
        nint context);
}

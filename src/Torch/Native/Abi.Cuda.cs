using System.Runtime.InteropServices;

namespace Moe.Torch.Native;

/// <summary>The exports for CUDA devices.</summary>
internal static unsafe partial class Abi
{
    [LibraryImport(Library, EntryPoint = "moe_cuda_devices")]
    public static partial int CudaDevices(out int count);

    [LibraryImport(Library, EntryPoint = "moe_cuda_use")]
    public static partial int CudaUse(int device);

    [LibraryImport(Library, EntryPoint = "moe_cuda_describe")]
    public static partial int CudaDescribe(int device, byte* name, out int capability, out int processors, out long bytes);

    [LibraryImport(Library, EntryPoint = "moe_cuda_synchronize")]
    public static partial int CudaSynchronize();

    [LibraryImport(Library, EntryPoint = "moe_cuda_memory")]
    public static partial int CudaMemory(int device, out long allocated, out long peak, out long peakReserved, out long free, out long total);

    [LibraryImport(Library, EntryPoint = "moe_cuda_available")]
    public static partial int CudaAvailable(int device, out long bytes);

    [LibraryImport(Library, EntryPoint = "moe_cuda_reset_peak")]
    public static partial int CudaResetPeak(int device);

    [LibraryImport(Library, EntryPoint = "moe_cuda_event_create")]
    public static partial int CudaEventCreate(out nint handle);

    [LibraryImport(Library, EntryPoint = "moe_cuda_event_record")]
    public static partial int CudaEventRecord(nint handle);

    [LibraryImport(Library, EntryPoint = "moe_cuda_event_elapsed")]
    public static partial int CudaEventElapsed(nint begin, nint end, out float milliseconds);

    [LibraryImport(Library, EntryPoint = "moe_profile_begin")]
    public static partial int ProfileBegin();

    [LibraryImport(Library, EntryPoint = "moe_profile_end", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int ProfileEnd(string path);

    [LibraryImport(Library, EntryPoint = "moe_cuda_event_record_on")]
    public static partial int CudaEventRecordOn(nint handle, nint stream);

    [LibraryImport(Library, EntryPoint = "moe_cuda_event_query")]
    public static partial int CudaEventQuery(nint handle, out int done);

    [LibraryImport(Library, EntryPoint = "moe_cuda_event_await")]
    public static partial int CudaEventAwait(nint handle);

    [LibraryImport(Library, EntryPoint = "moe_cuda_stream_create")]
    public static partial int CudaStreamCreate(out nint stream);

    [LibraryImport(Library, EntryPoint = "moe_cuda_stream_await")]
    public static partial int CudaStreamAwait(nint stream, nint handle);

    [LibraryImport(Library, EntryPoint = "moe_cuda_stream_free")]
    public static partial int CudaStreamFree(nint stream);

    [LibraryImport(Library, EntryPoint = "moe_cuda_event_free")]
    public static partial int CudaEventFree(nint handle);

    [LibraryImport(Library, EntryPoint = "moe_graph_begin")]
    public static partial int GraphBegin(out nint graph);

    [LibraryImport(Library, EntryPoint = "moe_graph_end")]
    public static partial int GraphEnd(nint graph);

    [LibraryImport(Library, EntryPoint = "moe_graph_replay")]
    public static partial int GraphReplay(nint graph);

    [LibraryImport(Library, EntryPoint = "moe_graph_free")]
    public static partial int GraphFree(nint graph);

    [LibraryImport(Library, EntryPoint = "moe_cuda_host_allocate")]
    public static partial int CudaHostAllocate(long bytes, out nint address);

    [LibraryImport(Library, EntryPoint = "moe_cuda_host_free")]
    public static partial int CudaHostFree(nint address);

    [LibraryImport(Library, EntryPoint = "moe_cuda_copy")]
    public static partial int CudaCopy(nint stream, nint to, nint from, long bytes);
}

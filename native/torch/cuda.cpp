// CUDA devices: how many, how much memory, streams and the events on them. Without CUDA there are none, and what needs one says so.
#include "torch/torch_abi.h"

#ifdef MOE_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#endif

#include <cstring>

#ifdef MOE_CUDA
namespace {

using MemoryStats = c10::CachingDeviceAllocator::DeviceStats;

template <class... Words>
void check(cudaError_t status, const Words&... what) {
  if (status != cudaSuccess) {
    (void)cudaGetLastError();  // told here: or the next check of a kernel's launch would find it
    TORCH_CHECK(false, what..., ": ", cudaGetErrorString(status));
  }
}

MemoryStats stats(int32_t device) { return c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(device)); }

const auto& of_all(const c10::CachingAllocator::StatArray& counts) { return counts[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)]; }

}  // namespace
#endif

// 0 where there is no CUDA, no driver or no device.
MOE_EXPORT int32_t moe_cuda_devices(int32_t* count) {
  MOE_TRY {
#ifdef MOE_CUDA
    *count = c10::cuda::device_count();
#else
    *count = 0;
#endif
  }
  MOE_CATCH
}

// What the calling thread's new tensors and kernels belong to from here on.
MOE_EXPORT int32_t moe_cuda_use(int32_t device) {
  MOE_TRY {
#ifdef MOE_CUDA
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(device));
#else
    (void)device;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// name: room for 256 bytes. capability: 90 for 9.0.
MOE_EXPORT int32_t moe_cuda_describe(int32_t device, char* name, int32_t* capability, int32_t* processors, int64_t* bytes) {
  MOE_TRY {
#ifdef MOE_CUDA
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
    std::memcpy(name, properties.name, 256);
    *capability = 10 * properties.major + properties.minor;
    *processors = properties.multiProcessorCount;
    *bytes = static_cast<int64_t>(properties.totalGlobalMem);
#else
    (void)device, (void)name, (void)capability, (void)processors, (void)bytes;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// Waits for all work of the current device.
MOE_EXPORT int32_t moe_cuda_synchronize() {
  MOE_TRY {
#ifdef MOE_CUDA
    c10::cuda::device_synchronize();
#else
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// Bytes in tensors now and at most since the last reset, and bytes that the allocator holds at most; free and total bytes of the device.
MOE_EXPORT int32_t moe_cuda_memory(int32_t device, int64_t* allocated, int64_t* peak, int64_t* peak_reserved, int64_t* free_bytes, int64_t* total) {
  MOE_TRY {
#ifdef MOE_CUDA
    c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));  // cudaMemGetInfo tells of the current one
    auto held = stats(device);
    *allocated = of_all(held.allocated_bytes).current;
    *peak = of_all(held.allocated_bytes).peak;
    *peak_reserved = of_all(held.reserved_bytes).peak;
    size_t available = 0, all = 0;
    check(cudaMemGetInfo(&available, &all), "cudaMemGetInfo");
    *free_bytes = static_cast<int64_t>(available);
    *total = static_cast<int64_t>(all);
#else
    (void)device, (void)allocated, (void)peak, (void)peak_reserved, (void)free_bytes, (void)total;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// Bytes that new tensors may take: free on the device, and held by the allocator without a tensor in them.
MOE_EXPORT int32_t moe_cuda_available(int32_t device, int64_t* bytes) {
  MOE_TRY {
#ifdef MOE_CUDA
    c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
    auto held = stats(device);
    size_t available = 0, all = 0;
    check(cudaMemGetInfo(&available, &all), "cudaMemGetInfo");
    *bytes = static_cast<int64_t>(available) + of_all(held.reserved_bytes).current - of_all(held.allocated_bytes).current;
#else
    (void)device, (void)bytes;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_cuda_reset_peak(int32_t device) {
  MOE_TRY {
#ifdef MOE_CUDA
    c10::cuda::CUDACachingAllocator::resetPeakStats(static_cast<c10::DeviceIndex>(device));
#else
    (void)device;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// An event with time, recorded on the current stream each time that moe_cuda_event_record is called.
MOE_EXPORT int32_t moe_cuda_event_create(void** event) {
  MOE_TRY {
#ifdef MOE_CUDA
    cudaEvent_t made = nullptr;
    check(cudaEventCreate(&made), "cudaEventCreate");
    *event = made;
#else
    (void)event;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_cuda_event_record(void* event) {
  MOE_TRY {
#ifdef MOE_CUDA
    check(cudaEventRecord(static_cast<cudaEvent_t>(event), c10::cuda::getCurrentCUDAStream().stream()), "cudaEventRecord");
#else
    (void)event;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// Waits for `end`.
MOE_EXPORT int32_t moe_cuda_event_elapsed(void* begin, void* end, float* milliseconds) {
  MOE_TRY {
#ifdef MOE_CUDA
    check(cudaEventSynchronize(static_cast<cudaEvent_t>(end)), "cudaEventSynchronize");
    check(cudaEventElapsedTime(milliseconds, static_cast<cudaEvent_t>(begin), static_cast<cudaEvent_t>(end)), "cudaEventElapsedTime");
#else
    (void)begin, (void)end, (void)milliseconds;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_cuda_event_free(void* event) {
  MOE_TRY {
#ifdef MOE_CUDA
    check(cudaEventDestroy(static_cast<cudaEvent_t>(event)), "cudaEventDestroy");
#else
    (void)event;
#endif
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_cuda_event_record_on(void* event, void* stream) {
  MOE_TRY {
#ifdef MOE_CUDA
    check(cudaEventRecord(static_cast<cudaEvent_t>(event), static_cast<cudaStream_t>(stream)), "cudaEventRecord");
#else
    (void)event, (void)stream;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// Whether the work before the event is done. A thread may ask while another one captures a graph.
MOE_EXPORT int32_t moe_cuda_event_query(void* event, int32_t* done) {
  MOE_TRY {
#ifdef MOE_CUDA
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    check(cudaThreadExchangeStreamCaptureMode(&mode), "cudaThreadExchangeStreamCaptureMode");
    cudaError_t status = cudaEventQuery(static_cast<cudaEvent_t>(event));
    check(cudaThreadExchangeStreamCaptureMode(&mode), "cudaThreadExchangeStreamCaptureMode");
    if (status == cudaErrorNotReady) {
      (void)cudaGetLastError();  // no failure, but the next check of a kernel's launch would take it for one
    } else {
      check(status, "cudaEventQuery");
    }
    *done = status == cudaSuccess ? 1 : 0;
#else
    (void)event, (void)done;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// Has the current stream wait for the event; the host goes on.
MOE_EXPORT int32_t moe_cuda_event_await(void* event) {
  MOE_TRY {
#ifdef MOE_CUDA
    check(cudaStreamWaitEvent(c10::cuda::getCurrentCUDAStream().stream(), static_cast<cudaEvent_t>(event), 0), "cudaStreamWaitEvent");
#else
    (void)event;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// A stream of the current device beside those of libtorch, of the highest priority; it waits for no other unless told to.
MOE_EXPORT int32_t moe_cuda_stream_create(void** stream) {
  MOE_TRY {
#ifdef MOE_CUDA
    int lowest = 0, highest = 0;
    check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cudaDeviceGetStreamPriorityRange");
    cudaStream_t made = nullptr;
    check(cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking, highest), "cudaStreamCreateWithPriority");
    *stream = made;
#else
    (void)stream;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// Has `stream` wait for the event.
MOE_EXPORT int32_t moe_cuda_stream_await(void* stream, void* event) {
  MOE_TRY {
#ifdef MOE_CUDA
    check(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), static_cast<cudaEvent_t>(event), 0), "cudaStreamWaitEvent");
#else
    (void)stream, (void)event;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_cuda_stream_free(void* stream) {
  MOE_TRY {
#ifdef MOE_CUDA
    check(cudaStreamDestroy(static_cast<cudaStream_t>(stream)), "cudaStreamDestroy");
#else
    (void)stream;
#endif
  }
  MOE_CATCH
}

// Host memory that devices copy to and from by themselves.
MOE_EXPORT int32_t moe_cuda_host_allocate(int64_t bytes, void** address) {
  MOE_TRY {
#ifdef MOE_CUDA
    check(cudaHostAlloc(address, static_cast<size_t>(bytes), cudaHostAllocDefault), "cudaHostAlloc of ", bytes,
          " bytes of host memory for offloaded activations");
#else
    (void)bytes, (void)address;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_cuda_host_free(void* address) {
  MOE_TRY {
#ifdef MOE_CUDA
    check(cudaFreeHost(address), "cudaFreeHost");
#else
    (void)address;
#endif
  }
  MOE_CATCH
}

// Queues a copy to or from a device's memory to `stream`; the host goes on. Host memory is that of moe_cuda_host_allocate.
MOE_EXPORT int32_t moe_cuda_copy(void* stream, void* to, const void* from, int64_t bytes) {
  MOE_TRY {
#ifdef MOE_CUDA
    check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, static_cast<cudaStream_t>(stream)), "cudaMemcpyAsync");
#else
    (void)stream, (void)to, (void)from, (void)bytes;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

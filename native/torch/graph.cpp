// CUDA graphs: kernels that were noted once, with all their arguments, and are launched again by one call.
#include "torch/torch_abi.h"

#ifdef MOE_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <memory>

namespace {

// A graph takes what is queued to its own stream, which is the thread's while the capture lasts. libtorch's autograd runs a node's backward on the
// stream of its forward, so that backward is captured too, whichever thread runs it.
struct Graph {
  at::cuda::CUDAGraph graph;
  c10::cuda::CUDAStream before = c10::cuda::getCurrentCUDAStream();
  c10::cuda::CUDAStream own = c10::cuda::getStreamFromPool();

  void leave_stream() { c10::cuda::setCurrentCUDAStream(before); }
};

Graph* of(void* graph) { return static_cast<Graph*>(graph); }

}  // namespace
#endif

// From here on the calling thread's work is noted instead of done. Memory that the allocator holds unused is given back first: a graph has its own.
MOE_EXPORT int32_t moe_graph_begin(void** graph) {
  MOE_TRY {
#ifdef MOE_CUDA
    c10::cuda::device_synchronize();
    c10::cuda::CUDACachingAllocator::emptyCache();
    auto made = std::make_unique<Graph>();
    c10::cuda::setCurrentCUDAStream(made->own);
    try {
      // Other threads may do what a capture forbids, such as asking an event whether it is done.
      made->graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    } catch (...) {
      made->leave_stream();
      throw;
    }
    *graph = made.release();
#else
    (void)graph;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// Ends the noting; fails where something could not be noted.
MOE_EXPORT int32_t moe_graph_end(void* graph) {
  MOE_TRY {
#ifdef MOE_CUDA
    try {
      of(graph)->graph.capture_end();
    } catch (...) {
      of(graph)->leave_stream();
      (void)cudaGetLastError();  // or the next check of a kernel's launch would find it
      throw;
    }
    of(graph)->leave_stream();
#else
    (void)graph;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// Queues everything that was noted to the thread's current stream.
MOE_EXPORT int32_t moe_graph_replay(void* graph) {
  MOE_TRY {
#ifdef MOE_CUDA
    of(graph)->graph.replay();
#else
    (void)graph;
    moe::refuse_cuda();
#endif
  }
  MOE_CATCH
}

// Waits for the device, since the graph's memory goes with it.
MOE_EXPORT int32_t moe_graph_free(void* graph) {
  MOE_TRY {
#ifdef MOE_CUDA
    c10::cuda::device_synchronize();
    delete of(graph);
#else
    (void)graph;
#endif
  }
  MOE_CATCH
}

// The trace of what a process does, by libtorch's own profiler (Kineto): operators on the host's threads and kernels on the device's streams. Only
// where libtorch has it, which is where it has CUDA.
#include "torch/torch_abi.h"

#ifdef MOE_CUDA
#include <torch/csrc/autograd/profiler_kineto.h>
#endif

MOE_EXPORT int32_t moe_profile_begin() {
  MOE_TRY {
#ifdef MOE_CUDA
    using namespace torch::profiler::impl;
    ProfilerConfig config(ProfilerState::KINETO);
    std::set<ActivityType> activities{ActivityType::CPU, ActivityType::CUDA};
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities);
#else
    TORCH_CHECK(false, "this build of libtorch has no profiler of kernels (docs/gpu.md)");
#endif
  }
  MOE_CATCH
}

// Writes the trace since moe_profile_begin in Chrome's format.
MOE_EXPORT int32_t moe_profile_end(const char* path) {
  MOE_TRY {
#ifdef MOE_CUDA
    torch::autograd::profiler::disableProfiler()->save(path);
#else
    (void)path;
    TORCH_CHECK(false, "no profile was begun");
#endif
  }
  MOE_CATCH
}

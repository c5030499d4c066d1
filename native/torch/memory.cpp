// What tensors take in host memory, as libtorch's allocator tells it to a thread's profiler.
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <memory>

#include "torch/torch_abi.h"

namespace {

struct HostMemoryCount : c10::MemoryReportingInfoBase {
  int64_t bytes = 0;
  int64_t most = 0;

  void add(int64_t size, c10::Device device) {
    if (device.is_cpu()) {
      bytes += size;
      most = std::max(most, bytes);
    }
  }

  // The totals' type differs between versions of libtorch; whichever is the base's overrides it.
  void reportMemoryUsage(void*, int64_t size, int64_t, int64_t, c10::Device device) { add(size, device); }
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device device) { add(size, device); }

  bool memoryProfilingEnabled() const override { return true; }
};

thread_local std::shared_ptr<HostMemoryCount> count;
thread_local std::unique_ptr<c10::DebugInfoGuard> guard;

}  // namespace

// Counts what the calling thread's operators allocate from now on, less what of that is freed. A second call begins anew.
MOE_EXPORT int32_t moe_count_host_memory() {
  MOE_TRY {
    guard.reset();
    count = std::make_shared<HostMemoryCount>();
    guard = std::make_unique<c10::DebugInfoGuard>(c10::DebugInfoKind::PROFILER_STATE, count);
  }
  MOE_CATCH
}

// Bytes now and at most; the peak counts from now on anew.
MOE_EXPORT int32_t moe_counted_host_memory(int64_t* bytes, int64_t* most) {
  MOE_TRY {
    TORCH_CHECK(count != nullptr, "this thread counts no memory");
    *bytes = count->bytes;
    *most = count->most;
    count->most = count->bytes;
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_stop_counting_host_memory() {
  MOE_TRY {
    guard.reset();
    count.reset();
  }
  MOE_CATCH
}

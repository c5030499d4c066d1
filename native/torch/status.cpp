#include <ATen/Parallel.h>
#include <torch/version.h>

#include <dlfcn.h>
#include <malloc.h>

#include <climits>

#include "torch/torch_abi.h"

namespace {
thread_local std::string last_error;
}

int32_t moe::fail(const std::string& message) noexcept {
  try {
    last_error = message;
  } catch (...) {  // no memory even for the message: the status alone must do
  }
  return 1;
}

MOE_EXPORT const char* moe_last_error() { return last_error.c_str(); }

MOE_EXPORT int32_t moe_abi() { return kMoeAbi; }

MOE_EXPORT const char* moe_torch_version() { return TORCH_VERSION; }

// Threads of one operator. Set before the first operator runs: libtorch keeps its pool for good. OpenBLAS, where it is the BLAS, has
// a pool of its own, whose idle threads would spin on the cores of other ranks.
MOE_EXPORT int32_t moe_set_threads(int32_t threads) {
  MOE_TRY {
    at::set_num_threads(threads);
    if (void* set = dlsym(RTLD_DEFAULT, "openblas_set_num_threads")) {
      reinterpret_cast<void (*)(int)>(set)(threads);
    }
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_get_threads(int32_t* threads) {
  MOE_TRY { *threads = at::get_num_threads(); }
  MOE_CATCH
}

// Has malloc keep what is freed. A training step frees and takes the same blocks again and again; by default the large ones go back
// to the kernel each time, and every page of them is zeroed and mapped anew. What a C library refuses costs that time and nothing else.
MOE_EXPORT int32_t moe_keep_freed_memory() {
  MOE_TRY {
    mallopt(M_ARENA_MAX, 1);  // those of other threads than the first are too small for a tensor, which is then mapped by itself
    // glibc before 2.35 takes no threshold above 32 MiB, but maps nothing by itself where it may have no mappings.
    if (!mallopt(M_MMAP_THRESHOLD, INT_MAX)) {
      mallopt(M_MMAP_MAX, 0);
    }
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    mallopt(M_TOP_PAD, 64 << 20);
  }
  MOE_CATCH
}

#include <ATen/Parallel.h>
#include <torch/version.h>

#include <dlfcn.h>
#include <malloc.h>

#include <algorithm>
#include <climits>

#include "torch/torch_abi.h"

namespace {

thread_local std::string last_error;

// What malloc takes of the kernel beyond what it needs.
constexpr size_t kTopPad = size_t{64} << 20;

// The C library's struct mallinfo2, which headers before 2.33 don't have.
struct HeapInfo {
  size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};

}  // namespace

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
    mallopt(M_TOP_PAD, kTopPad);
  }
  MOE_CATCH
}

// held: bytes that malloc has of the kernel. unused: what of them the next tensors may take. Both 0 where the C library doesn't say;
// it is asked by name, since a library that is bound to mallinfo2 could not be loaded there.
MOE_EXPORT int32_t moe_heap(int64_t* held, int64_t* unused) {
  MOE_TRY {
    static auto* const ask = reinterpret_cast<HeapInfo (*)()>(dlsym(RTLD_DEFAULT, "mallinfo2"));
    HeapInfo info = ask ? ask() : HeapInfo{};
    *held = static_cast<int64_t>(info.arena + info.hblkhd);
    // The pad at the top may never have been touched: the kernel has it still, and counts it as available itself.
    *unused = static_cast<int64_t>(info.fordblks - std::min(info.keepcost, kTopPad));
  }
  MOE_CATCH
}

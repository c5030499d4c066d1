#include <ATen/Parallel.h>
#include <torch/version.h>

#include <cstring>

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

// Threads of one operator. Set before the first operator runs: libtorch keeps its pool for good.
MOE_EXPORT int32_t moe_set_threads(int32_t threads) {
  MOE_TRY { at::set_num_threads(threads); }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_get_threads(int32_t* threads) {
  MOE_TRY { *threads = at::get_num_threads(); }
  MOE_CATCH
}

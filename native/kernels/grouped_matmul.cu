// What libtorch's grouped product, where that is the one which runs (grouped_matmul.cpp), leaves undone: matrices of experts without rows.
#include "kernels/cuda.cuh"
#include "kernels/grouped_matmul.h"

namespace moe::cuda {
namespace {

constexpr int kThreads = 256;

// blockIdx.y: the group. Blocks of groups with rows leave at once, so that the call costs a launch where every expert has rows.
template <typename Word>
__global__ void __launch_bounds__(kThreads) zero_empty(Word* matrices, const int32_t* offsets, int64_t words) {
  int group = blockIdx.y;
  if (offsets[group] != (group == 0 ? 0 : offsets[group - 1])) {
    return;
  }
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < words; i += static_cast<int64_t>(gridDim.x) * kThreads) {
    matrices[group * words + i] = Word{};
  }
}

template <typename Word>
void launch(void* matrices, const int32_t* offsets, int64_t groups, int64_t bytes, void* on) {
  int64_t words = bytes / static_cast<int64_t>(sizeof(Word));
  int64_t blocks = (words + kThreads - 1) / kThreads;
  dim3 grid(static_cast<unsigned>(blocks < 32 ? blocks : 32), static_cast<unsigned>(groups));
  zero_empty<<<grid, kThreads, 0, stream(on)>>>(static_cast<Word*>(matrices), offsets, words);
}

}  // namespace

void zero_empty_groups(void* matrices, const int32_t* offsets, int64_t groups, int64_t bytes, void* on) {
  if (groups == 0 || bytes == 0) {
    return;
  }
  if (bytes % 16 == 0 && reinterpret_cast<uintptr_t>(matrices) % 16 == 0) {
    launch<uint4>(matrices, offsets, groups, bytes, on);
  } else {
    launch<unsigned short>(matrices, offsets, groups, bytes, on);
  }
  check_launch("zeros of experts without rows");
}

}  // namespace moe::cuda

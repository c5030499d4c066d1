// Splitting of float32 numbers into bfloat16 parts and sums of three blocks, on a GPU: a thread an element.
//
// Bytes an element: a split reads 4 and writes 6, a sum reads 12 and writes 4. With T = 16,384 and E = 64 (4 MiB of logits) each is under 6 us at 3 TB/s.
#include "kernels/cuda.cuh"
#include "kernels/split.h"

namespace moe::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) split_elements(const float* from, bf16* to, Blocks blocks, Parts parts) {
  int64_t count = blocks.rows * blocks.width, step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    float value = from[i];
    bf16 high = narrowed<bf16>::from(value);
    float left = value - widened(high);  // exact
    bf16 middle = narrowed<bf16>::from(left);
    bf16 low = narrowed<bf16>::from(left - widened(middle));
    int64_t at = i / blocks.width * blocks.row_stride + i % blocks.width;
#pragma unroll
    for (int b = 0; b < 3; ++b) {
      to[at + b * blocks.block_stride] = parts.of[b] == 0 ? high : parts.of[b] == 1 ? middle : low;
    }
  }
}

__global__ void __launch_bounds__(kThreads) add_elements(const float* from, float* to, Blocks blocks) {
  int64_t count = blocks.rows * blocks.width, step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    const float* at = from + i / blocks.width * blocks.row_stride + i % blocks.width;
    to[i] = at[2 * blocks.block_stride] + at[blocks.block_stride] + at[0];
  }
}

}  // namespace

void split(const float* from, void* to, const Blocks& blocks, const Parts& parts, void* on) {
  if (blocks.rows * blocks.width > 0) {
    split_elements<<<grid(blocks.rows * blocks.width, kThreads), kThreads, 0, stream(on)>>>(from, static_cast<bf16*>(to), blocks, parts);
    check_launch("split");
  }
}

void add_blocks(const float* from, float* to, const Blocks& blocks, void* on) {
  if (blocks.rows * blocks.width > 0) {
    add_elements<<<grid(blocks.rows * blocks.width, kThreads), kThreads, 0, stream(on)>>>(from, to, blocks);
    check_launch("sum of blocks");
  }
}

}  // namespace moe::cuda

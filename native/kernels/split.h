// Float32 numbers as sums of three bfloat16 ones (8 bits of significand each, 24 together), so that tensor cores multiply them in float32 accuracy.
#pragma once

#include <cstdint>

namespace moe {

// A matrix [rows, width] without gaps beside three blocks: element (r, c) of block b lies at b * block_stride + r * row_stride + c.
struct Blocks {
  int64_t rows;
  int64_t width;
  int64_t row_stride;
  int64_t block_stride;
};

// Which part each block holds: 0 the rounded number, 1 what that left, rounded, 2 what both left.
struct Parts {
  int32_t of[3];
};

namespace cuda {
void split(const float* from, void* to, const Blocks& blocks, const Parts& parts, void* stream);
// to[r, c] = the blocks' sum, the last block first.
void add_blocks(const float* from, float* to, const Blocks& blocks, void* stream);
}  // namespace cuda

}  // namespace moe

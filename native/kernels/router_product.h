// Products of bfloat16 rows with a float32 weight in float32 accuracy. A float32 number is the sum of three bfloat16 ones (8 bits of significand each, 24 together),
// so that tensor cores multiply it: the rounded number, what that left, rounded, and what both left.
// Shapes: T tokens, E experts, D width; x [T, D] bfloat16, weight [E, D] and logits [T, E] float32, without gaps.
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

// Which part each block holds: 0 the rounded number, 1 what that left, 2 what both left.
struct Parts {
  int32_t of[3];
};

struct RouterProduct {
  int64_t tokens;
  int64_t experts;
  int64_t width;
  const void* x;
  const float* weight;
  float* logits;           // forward's result; null in backward
  const float* arriving;   // the logits' gradient; null in forward
  void* x_gradient;        // [T, D] bfloat16; null where not asked for
  float* weight_gradient;  // [E, D] float32; null where not asked for
};

namespace cuda {
// Whether the fused kernels take it: E a multiple of 8 up to 256, D a multiple of 8, and addresses of 16 bytes.
bool router_product_fits(const RouterProduct& x);
// Bytes of workspace, at a multiple of 16.
int64_t router_product_workspace(const RouterProduct& x);
void router_product_forward(const RouterProduct& x, void* workspace, void* stream);
void router_product_backward(const RouterProduct& x, void* workspace, void* stream);

// For products by the library.
void split(const float* from, void* to, const Blocks& blocks, const Parts& parts, void* stream);
// to[r, c] = the blocks' sum, the last block first.
void add_blocks(const float* from, float* to, const Blocks& blocks, void* stream);
}  // namespace cuda

}  // namespace moe

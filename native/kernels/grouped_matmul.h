// Grouped products on a GPU, and what they need beside library products.
#pragma once

#include <cstdint>

namespace moe::cuda {

// Zeros over the matrices, `bytes` each (a multiple of 2), of the groups without rows. offsets: [groups], inclusive sums of rows, on the device.
void zero_empty_groups(void* matrices, const int32_t* offsets, int64_t groups, int64_t bytes, void* stream);

// A product as the gradient of the gated activation [rows, n] of hidden [rows, 2 n], gates before ups: what swiglu_backward would make of it, of rows in groups.
// n is a multiple of 64, and all are without gaps.
struct GatedBackward {
  const void* hidden;
  const float* weights;    // [rows]; null for 1
  void* activation;        // [rows, n]
  void* gradient;          // [rows, 2 n], of hidden
  float* weight_gradient;  // [rows]; null for none
  float* weight_sums;      // [rows, tiles of n]: room for each tile's part of that; null for none, or where there is one tile
};

// c [rows, n] = each group's rows of a [rows, k] times its matrix of b [groups, k, n], all bfloat16. What stands beyond the last group's rows is left.
// Where there is room for it, also activation [rows, n / 2] = silu(c's first half of columns) * its second half * weights: b is deep, and n a multiple of 128.
// Strides in elements, multiples of 8 as n and k are, and addresses of 16 bytes.
struct GroupedRows {
  const void* a;
  const void* b;
  void* c;
  const int32_t* ends;  // [groups]: inclusive sums of rows, on the device
  int32_t* ticket;      // [1]: room for a counter, on the device
  int64_t groups;
  int64_t rows;
  int64_t n;
  int64_t k;
  int64_t a_stride;        // between rows
  int64_t b_stride;        // between rows of k if b is deep: [groups, n, k] in memory; else of n
  int64_t b_group_stride;  // between matrices
  bool is_deep;
  void* activation;               // null for none
  const float* weights;           // [rows]; null for 1
  const GatedBackward* backward;  // null for none; else c is written nowhere but goes into that, and b is not deep
};

// An update of bfloat16 matrices [groups, m, n] by their gradients as they are made: AdamW's (Rule::Adam).
struct MatrixStep {
  void* slots[3];             // values, means, mean squares
  const float* coefficients;  // [groups, of the rule], on the device
  bool skips_idle;            // whether matrices of groups without rows are left as they are
};

// c [groups, m, n] = each group's rows of a [rows, m], transposed, times its rows of b [rows, n].
struct GroupedMatrices {
  const void* a;
  const void* b;
  void* c;
  const int32_t* ends;
  int32_t* ticket;
  void* maps;       // room for kMapBytes a group, on the device, at a multiple of 64
  double* squares;  // [groups, tiles of m, tiles of n, kTileSquares]: what the squares of each tile's numbers add up to, a warp's at a time
  int64_t groups;
  int64_t rows;
  int64_t m;
  int64_t n;
  int64_t a_stride;
  int64_t b_stride;
  const MatrixStep* step;  // null for none; else c, which is a gradient then, is written nowhere but rounded into the step
};

constexpr int64_t kTileRows = 256;
constexpr int64_t kTileColumns = 256;
constexpr int64_t kTileSquares = 16;

// Two maps of tensors.
constexpr int64_t kMapBytes = 256;

// Whether the current device and the number of groups suit the kernels for Hopper, which builds with MOE_HOPPER have.
bool has_grouped_products(int64_t groups);

void grouped_rows(const GroupedRows& x, void* stream);
void grouped_matrices(const GroupedMatrices& x, void* stream);

}  // namespace moe::cuda

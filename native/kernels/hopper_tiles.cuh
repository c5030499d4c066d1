// What a grouped product on Hopper multiplies, and its tiles: how they are numbered, group by group, and found by growing numbers.
#pragma once

#include <type_traits>

#include "kernels/cuda.cuh"
#include "kernels/grouped_matmul.h"
#include "kernels/hopper.cuh"

namespace moe::cuda::hopper {

constexpr int kBlocks = 2;               // of a cluster
constexpr int kRows = 128;               // of a block's part of a tile
constexpr int kColumns = 256;            // of a tile
constexpr int kDepth = 64;               // of a stage along the sum
constexpr int kGroup = 128;              // threads of a warpgroup
constexpr int kWarps = 2 * kGroup / 32;  // of a block that multiply
constexpr int kMostGroups = 256;
constexpr int kStepSlots = 3;            // of a stepped matrix, the gradient not counted

enum class Form {
  kRowsDeep,  // c [R, N]: a [R, K], b [E, N, K]
  kRowsWide,  // c [R, N]: a [R, K], b [E, K, N]
  kGated,     // c [R, 2N]: a [R, K], b [E, 2N, K], gates before ups; and their activation [R, N]
  kMatrices,  // c [E, M, N]: a [R, M], b [R, N]
  kStepped,   // the same, as gradients of matrices that are stepped by them where they stand; c is written nowhere
  // As kRowsWide, the product being the gradient of an activation [R, N] and written nowhere: c [R, 2N] is the gradient of gates and ups, and the activation is
  // made once more.
  kGatedBackward,
};

template <Form kForm>
constexpr bool kIsMatrices = kForm == Form::kMatrices || kForm == Form::kStepped;

template <Form kForm>
constexpr bool kIsDeep = kForm == Form::kRowsDeep || kForm == Form::kGated;  // of b

// Behind the stages of factors a tile has stages of an epilogue: boxes of other tensors arrive there, change by the sums, and go back to memory.
template <Form kForm>
constexpr bool kHasEpilogue = kForm == Form::kStepped || kForm == Form::kGatedBackward;

// Columns of N that a tile takes: of gated ones those of gates, and beside them the ups that belong to them.
template <Form kForm>
constexpr int kAcross = kForm == Form::kGated ? kColumns / 2 : kColumns;

// Numbers and addresses of a product; factors and most results are reached by maps.
struct Problem {
  const int32_t* ends;
  int32_t* ticket;
  int groups;
  int height;  // M of matrices
  int width;   // N
  int depth;   // K of rows
  bf16* result;
  bf16* activation;         // of gated ones and their backward
  const float* weights;     // of the same: a row's; null for 1
  const CUtensorMap* maps;  // of matrices: left and right of each group
  double* squares;          // of matrices: kTileSquares a tile
};

// What the matrices are stepped by.
struct Stepping {
  const float* coefficients;  // of the rule, a row a group
  bool skips_idle;            // whether matrices of groups without rows are left as they are
  // Slots but the gradient, [E, M, N]: boxes of 64 columns of a block's rows to read, and of a warp's to write.
  CUtensorMap read[kStepSlots];
  CUtensorMap write[kStepSlots];
};
static_assert(kTileRows == kBlocks * kRows && kTileColumns == kColumns && kTileSquares == kBlocks * kWarps);

// What gradients of gates and ups are made of, besides the product.
struct Gating {
  CUtensorMap hidden;  // [R, 2N], gates before ups: boxes of 64 columns of a block's rows
  float* weight_sums;  // [R, tiles of N]: each tile's part of the gradient of a row's weight; null for none
};

struct Nothing {};
template <Form kForm>
using EpilogueOf = std::conditional_t<kForm == Form::kStepped, Stepping, std::conditional_t<kForm == Form::kGatedBackward, Gating, Nothing>>;

// A block's part of a tile.
struct Tile {
  int group;
  int row;     // first row of its left factor, in all rows, or of matrices in the group
  int rows;    // how many of the 128 are there
  int column;  // first column of the whole tile
  int start;   // first row of the sum; matrices only
  int stages;
  int epilogue_stages;  // 64 columns each
};

// Finds tiles of growing numbers.
template <Form kForm>
struct Walk {
  const Problem& x;
  const EpilogueOf<kForm>& by;
  const int* ends;
  int group = 0;
  int first = 0;  // tile of the group

  __device__ __forceinline__ int begin() const { return group == 0 ? 0 : ends[group - 1]; }

  __device__ __forceinline__ int tall() const { return kIsMatrices<kForm> ? x.height : ends[group] - begin(); }

  // False where there is no such tile.
  __device__ __forceinline__ bool find(int number, int rank, Tile& tile) {
    int across = (x.width + kAcross<kForm> - 1) / kAcross<kForm>;
    for (; group < x.groups; ++group) {
      int tiles = (tall() + kBlocks * kRows - 1) / (kBlocks * kRows) * across;
      if (number < first + tiles) {
        break;
      }
      first += tiles;
    }
    if (group == x.groups) {
      return false;
    }
    int down = (number - first) / across * kBlocks * kRows;
    int left = min(tall() - down, kBlocks * kRows);
    // Few rows are shared out, so that each block has a warpgroup's.
    int each = left > kRows ? kRows : kRows / 2;
    tile.group = group;
    tile.column = (number - first) % across * kAcross<kForm>;
    tile.rows = max(0, min(left - rank * each, each));
    tile.row = down + rank * each;
    tile.epilogue_stages = (min(x.width - tile.column, kColumns) + 63) / 64;
    if (kIsMatrices<kForm>) {
      tile.start = begin();
      tile.stages = (ends[group] - tile.start + kDepth - 1) / kDepth;
      if constexpr (kForm == Form::kStepped) {
        tile.epilogue_stages = tile.stages == 0 && by.skips_idle ? 0 : tile.epilogue_stages;
      }
      if (tile.stages == 0) {  // one of zeros, from beyond the tensor
        tile.start = max(1, tile.start);
        tile.stages = 1;
      }
    } else {
      tile.row += begin();
      tile.stages = (x.depth + kDepth - 1) / kDepth;
    }
    return true;
  }
};

}  // namespace moe::cuda::hopper

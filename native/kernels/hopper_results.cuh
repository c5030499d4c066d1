// The sums of a tile's products on their way to memory: rounded to bfloat16, by boxes of 16 x 64 in shared memory, with their activation or the sum of their
// squares; or into boxes of other tensors there, which go to memory in their stead.
#pragma once

#include "kernels/cuda.cuh"
#include "kernels/hopper.cuh"
#include "kernels/hopper_tiles.cuh"
#include "kernels/optimizer.cuh"
#include "kernels/swiglu.cuh"

namespace moe::cuda::hopper {

constexpr int kBoxes = 2;  // on their way, a warp's
constexpr int kBoxRows = 16;
constexpr int kBoxBytes = kBoxRows * 64 * 2;
constexpr int kGradientSlot = 1;  // of every rule that steps matrices here

// Adds the squares of 32 numbers, two in each register. They are exact in float32, and added
// there, which loses 2^-22 of the sum at most, unless that is so far from one that float32 might lose more (as in optimizer.cu, whose sums keep what is rounded off).
__device__ __forceinline__ void add_squares(const unsigned (&pairs)[16], double& sum) {
  float low = 0, high = 0;
#pragma unroll
  for (unsigned pair : pairs) {
    float first = __uint_as_float(pair << 16), second = __uint_as_float(pair & 0xffff0000u);
    low += first * first;
    high += second * second;
  }
  float both = low + high;
  if (both > 1e-24f && both < 1e36f) {
    sum += both;
  } else {
#pragma unroll
    for (unsigned pair : pairs) {
      double first = __uint_as_float(pair << 16), second = __uint_as_float(pair & 0xffff0000u);
      sum += first * first + second * second;
    }
  }
}

// The first `rows` of a warp's 16 rows of 64 numbers in shared memory, to their place from (row, column) on: what is behind them is another group's.
__device__ __forceinline__ void write_rows(uint32_t box, bf16* to, int width, int row, int column, int rows) {
  int lane = threadIdx.x % 32, piece = lane % 8;
  if (column + piece * 8 < width) {
    for (int r = lane / 8; r < rows; r += 4) {
      uint4 value = load_shared_vector(box + r * 128 + (piece ^ (r & 7)) * 16);
      *reinterpret_cast<uint4*>(to + static_cast<int64_t>(row + r) * width + column + piece * 8) = value;
    }
  }
}

// Where results go.
struct Target {
  const CUtensorMap& map;
  bf16* start;
  int width;
};

// A warp's 16 x 64 numbers, two in each register, to their place from (group, row, column) on, by a box of its own in shared memory. Of rows only the first
// `rows` are written.
__device__ __forceinline__ void put_box(const unsigned (&pairs)[16], const Target& to, int group, int row, int column, int rows, uint32_t boxes, int& used) {
  int lane = threadIdx.x % 32;
  int line = lane & 15;  // that the lane addresses, one 16-byte piece of it or the next
  uint32_t box = boxes + (used++ & (kBoxes - 1)) * kBoxBytes;
  if (lane == 0) {
    stores_wait_read<kBoxes - 1>();
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    int piece = (i * 2 + (lane >> 4)) ^ (line & 7);
    store_matrices(box + line * 128 + piece * 16, pairs[4 * i], pairs[4 * i + 1], pairs[4 * i + 2], pairs[4 * i + 3]);
  }
  fence_for_copies();
  __syncwarp();
  if (rows >= kBoxRows) {
    if (lane == 0) {
      store_box(to.map, box, column, row, group);
    }
  } else {
    write_rows(box, to.start, to.width, row, column, rows);
  }
  if (lane == 0) {
    stores_commit();
  }
}

// 16 x 64 of the warp's sums, rounded.
__device__ __forceinline__ void round_box(const float* d, unsigned (&pairs)[16]) {
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    pairs[i] = bf16_pair(d[2 * i], d[2 * i + 1]);
  }
}

// Weights of the two rows of which the lane has numbers, from row `row` of a warp's 16 on; of rows only the first `rows` are the group's.
__device__ __forceinline__ void load_weights(const Problem& x, int row, int rows, float (&weights)[2]) {
  int line = threadIdx.x % 32 / 4;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    weights[i] = x.weights != nullptr && line + 8 * i < rows ? x.weights[row + line + 8 * i] : 1;
  }
}

// A warp's 16 x 256 sums, from row `row` on, to their place. Of rows only the first `rows` are the group's. Returns the lane's part of the sum of their squares, where
// the form asks for it.
template <Form kForm>
__device__ __forceinline__ double store(const float (&d)[128], const Tile& tile, int row, int rows, const Problem& x, const CUtensorMap& c, uint32_t boxes,
                                        int& used) {
  double squares = 0;
#pragma unroll
  for (int box = 0; box < kColumns / 64; ++box) {
    int column = tile.column + box * 64;
    if (column < x.width) {
      unsigned pairs[16];
      round_box(d + box * 32, pairs);
      if constexpr (kForm == Form::kMatrices) {  // its map ends where the matrix does
        put_box(pairs, {c, x.result, x.width}, tile.group, row, column, kBoxRows, boxes, used);
        add_squares(pairs, squares);
      } else {
        put_box(pairs, {c, x.result, x.width}, 0, row, column, rows, boxes, used);
      }
    }
  }
  return squares;
}

// The same of 128 gates and the 128 ups that belong to them, with the activation of both as they are rounded.
__device__ __forceinline__ void store_gated(const float (&d)[128], const Tile& tile, int row, int rows, const Problem& x, const CUtensorMap& c,
                                            const CUtensorMap& e, uint32_t boxes, int& used) {
  float weights[2];
  load_weights(x, row, rows, weights);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    int column = tile.column + half * 64;
    if (column < x.width) {
      unsigned gates[16], ups[16];
      round_box(d + half * 32, gates);
      round_box(d + 64 + half * 32, ups);
      put_box(gates, {c, x.result, 2 * x.width}, 0, row, column, rows, boxes, used);
      put_box(ups, {c, x.result, 2 * x.width}, 0, row, x.width + column, rows, boxes, used);
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        float low = gated(__uint_as_float(gates[i] << 16), __uint_as_float(ups[i] << 16), weights[i % 2]);
        float high = gated(__uint_as_float(gates[i] & 0xffff0000u), __uint_as_float(ups[i] & 0xffff0000u), weights[i % 2]);
        gates[i] = bf16_pair(low, high);
      }
      put_box(gates, {e, x.activation, x.width}, 0, row, column, rows, boxes, used);
    }
  }
}

// 16 x 64 of a stepped matrix, whose slots stand in shared memory at `slots`, kSlotBytes after one another: the sums are their gradient, in `pairs`. Each takes its
// new numbers there, and they start on their way to memory.
template <class R, class Applied>
__device__ __forceinline__ void step_box(const unsigned (&pairs)[16], const Applied& rule, const Stepping& to, int group, int row, int column,
                                         uint32_t slots, uint32_t slot_bytes) {
  int lane = threadIdx.x % 32;
  int line = lane & 15;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint32_t at = slots + line * 128 + ((i * 2 + (lane >> 4)) ^ (line & 7)) * 16;
    unsigned four[4][R::kSlots];
#pragma unroll
    for (int slot = 0, other = 0; slot < R::kSlots; ++slot) {
      if (slot == kGradientSlot) {
#pragma unroll
        for (int j = 0; j < 4; ++j) four[j][slot] = pairs[4 * i + j];
      } else {
        load_matrices(at + other++ * slot_bytes, four[0][slot], four[1][slot], four[2][slot], four[3][slot]);
      }
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      step_pair<R>(four[j], rule);
    }
#pragma unroll
    for (int slot = 0, other = 0; slot < R::kSlots; ++slot) {
      if (slot != kGradientSlot) {
        store_matrices(at + other++ * slot_bytes, four[0][slot], four[1][slot], four[2][slot], four[3][slot]);
      }
    }
  }
  fence_for_copies();
  __syncwarp();
  if (lane == 0) {
#pragma unroll
    for (int other = 0; other < R::kSlots - 1; ++other) {
      store_box(to.write[other], slots + other * slot_bytes, column, row, group);
    }
    stores_commit();
  }
}

// 16 x 64 of gates, and of the ups that belong to them panel_bytes behind, in shared memory at `gates`: the sums, once rounded, are the gradient of their
// activation. They become their gradients, the activation stands another panel_bytes behind, and all three start on their way to memory. Of rows only the first
// `rows` are written. Adds to the sums of the lane's two rows what the gradients of their weights have of it.
__device__ __forceinline__ void gated_backward_box(const float* d, const float (&weights)[2], float (&sums)[2], int row, int rows, int column, const Problem& x,
                                                   const CUtensorMap& c, const CUtensorMap& e, uint32_t gates, uint32_t panel_bytes) {
  int lane = threadIdx.x % 32;
  int line = lane & 15;
  uint32_t ups = gates + panel_bytes, activation = ups + panel_bytes;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint32_t at = line * 128 + ((i * 2 + (lane >> 4)) ^ (line & 7)) * 16;
    unsigned gate[4], up[4], active[4];
    load_matrices(gates + at, gate[0], gate[1], gate[2], gate[3]);
    load_matrices(ups + at, up[0], up[1], up[2], up[3]);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      unsigned arriving = bf16_pair(d[8 * i + 2 * j], d[8 * i + 2 * j + 1]);
      float weight = weights[j % 2];
      auto low = gradients(__uint_as_float(gate[j] << 16), __uint_as_float(up[j] << 16), __uint_as_float(arriving << 16), weight);
      auto high = gradients(__uint_as_float(gate[j] & 0xffff0000u), __uint_as_float(up[j] & 0xffff0000u), __uint_as_float(arriving & 0xffff0000u), weight);
      gate[j] = bf16_pair(low.gate, high.gate);
      up[j] = bf16_pair(low.up, high.up);
      active[j] = bf16_pair(low.activation, high.activation);
      sums[j % 2] += low.product;
      sums[j % 2] += high.product;
    }
    store_matrices(gates + at, gate[0], gate[1], gate[2], gate[3]);
    store_matrices(ups + at, up[0], up[1], up[2], up[3]);
    store_matrices(activation + at, active[0], active[1], active[2], active[3]);
  }
  fence_for_copies();
  __syncwarp();
  if (rows >= kBoxRows) {
    if (lane == 0) {
      store_box(c, gates, column, row, 0);
      store_box(c, ups, x.width + column, row, 0);
      store_box(e, activation, column, row, 0);
    }
  } else {
    write_rows(gates, x.result, 2 * x.width, row, column, rows);
    write_rows(ups, x.result, 2 * x.width, row, x.width + column, rows);
    write_rows(activation, x.activation, x.width, row, column, rows);
  }
  if (lane == 0) {
    stores_commit();
  }
}

// Of the gradients of rows' weights the part of a tile, from the sums of each lane's two rows.
__device__ __forceinline__ void leave_weight_sums(const float (&sums)[2], const Tile& tile, int row, int rows, int width, float* to) {
  int lane = threadIdx.x % 32;
  int tiles = (width + kColumns - 1) / kColumns;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float sum = sums[i];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    int line = lane / 4 + 8 * i;
    if (lane % 4 == 0 && line < rows) {
      to[static_cast<int64_t>(row + line) * tiles + tile.column / kColumns] = sum;
    }
  }
}

// Of a warp's part of a tile.
__device__ __forceinline__ void leave_squares(const Problem& x, int number, int rank, int warp, double squares) {
  if (threadIdx.x % 32 == 0) {
    x.squares[(static_cast<int64_t>(number) * kBlocks + rank) * kWarps + warp] = squares;
  }
}

}  // namespace moe::cuda::hopper

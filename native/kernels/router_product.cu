// The router's product on a GPU: bfloat16 rows with a float32 weight in float32 accuracy, by tensor cores. A float32 factor is multiplied as three bfloat16 parts
// (router_product.h), which a small kernel makes first; logits and the weight's gradient keep the products of the two smaller parts in sums of their own, added to
// the large ones at the end, so that these don't swallow their bits. The rows' gradient is rounded to 8 bits: two parts of each factor and three products do.
// Every sum has one order, whatever runs beside it: no atomics.
//
// T = 16,384, D = 2048, E = 64. Each product is 12.9 GFLOP in bfloat16, 21 us at 600 TFLOP/s, about three fifths of an H100's rate, which is
// what mma.sync is known for. By these counts, not by measurement:
//   forward            68 MiB from and to memory, 24 us at 3 TB/s; a block has 128 tokens and reads the weight's parts (768 KiB) from the second-level cache:
//                      160 MiB through it, 30 us if that gives 5.5 TB/s
//   rows' gradient     70 MiB, 24 us; a block has 128 tokens, and the weight's two larger parts (512 KiB) pass by it
//   weight's gradient  70 MiB, 25 us; a block has 256 columns and a sixteenth of the tokens, whose slices are then added in their order: 8 MiB written and read again
//   parts              of the weight 2 MiB, of the logits' gradient 10 MiB: 4 us
// In shared memory rows are stored with their 16-byte chunks turned by the row (swizzled), so that neither copies nor ldmatrix meet in a bank.
#include "kernels/elements.cuh"
#include "kernels/router_product.h"
#include "kernels/tensor_cores.cuh"

namespace moe::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostExperts = 256;
constexpr int kExpertTile = 64;

// Forward: a block has 128 tokens and 64 experts; a stage has 64 columns. Four warps of 64 x 32 logits take
// the first half of each stage's columns, four the second.
constexpr int kForwardTokens = 128;
constexpr int kForwardDepth = 64;
constexpr int kForwardStages = 4;
constexpr int kForwardChunks = kForwardDepth / kChunk;
constexpr int kForwardStage = (kForwardTokens + 3 * kExpertTile) * kForwardChunks;  // chunks

// Rows' gradient: a block has 128 tokens (64 of more experts than 128) and goes over the columns, 128 at a time; a stage has 64 experts' rows of the weight.
constexpr int kRowsColumns = 128;
constexpr int kRowsStages = 3;
constexpr int kRowsStage = 2 * kExpertTile * kRowsColumns / kChunk;

// Weight's gradient: a block has 64 experts, 256 columns and a slice of the tokens; a stage has 32 tokens.
constexpr int kWeightColumns = 256;
constexpr int kWeightDepth = 32;
constexpr int kWeightStages = 4;
constexpr int kWeightStage = kWeightDepth * (3 * kExpertTile + kWeightColumns) / kChunk;
constexpr int64_t kWeightBlocks = 132;  // wanted: one for each multiprocessor of the largest Hopper
constexpr int kAhead = 8;               // slices' numbers that a thread loads before it adds them

__host__ __device__ constexpr int64_t rounded_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

// A step's data are awaited and worked, and those of a step further ahead asked for, where the step before was. They are so without a branch, beyond the last step
// too, for which copy(step, stage) takes zeros: the compiler lays these instructions between the products.
template <int kStages, class Copy, class Work>
__device__ __forceinline__ void pipeline(int steps, Copy copy, Work work) {
#pragma unroll
  for (int step = 0; step < kStages - 1; ++step) {
    copy(step, step);
    close_copies();
  }
  int stage = 0, free_stage = kStages - 1;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    await_copies<kStages - 2>();
    __syncthreads();
    work(step, stage);
    copy(step + kStages - 1, free_stage);
    close_copies();
    free_stage = stage;
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
}

// The parts of eight numbers.
__device__ __forceinline__ void split_chunk(float (&values)[kChunk], uint4 (&parts)[3]) {
#pragma unroll
  for (uint4& part : parts) {
    unsigned pairs[kChunk / 2];
#pragma unroll
    for (int i = 0; i < kChunk / 2; ++i) {
      pairs[i] = narrow_pair(values[2 * i], values[2 * i + 1]);
      values[2 * i] -= __uint_as_float(pairs[i] << 16);  // exact
      values[2 * i + 1] -= __uint_as_float(pairs[i] & 0xffff0000u);
    }
    part = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  }
}

// to: [3, chunks].
__global__ void __launch_bounds__(kThreads) split_all(const float* from, uint4* to, int64_t chunks) {
  int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < chunks; i += step) {
    float values[kChunk];
    uint4 parts[3];
    load_elements<float, kChunk>(from + i * kChunk, values);
    split_chunk(values, parts);
#pragma unroll
    for (int b = 0; b < 3; ++b) {
      to[b * chunks + i] = parts[b];
    }
  }
}

// The two larger parts of the weight, padded with zeros: [2, E rounded up to 64, D rounded up to 128]. Chunk n of 32 columns has the columns 2n, 2n + 1, 2n + 8,
// 2n + 9, 2n + 16, ...: a thread then has eight neighbouring columns in the sums of four tiles, and stores 16 bytes.
__global__ void __launch_bounds__(kThreads) split_interleaved(const float* from, uint4* to, int experts, int width, int padded_experts, int padded_width) {
  int chunks_a_row = padded_width / kChunk;
  int chunks = padded_experts * chunks_a_row;
  for (int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); i < chunks; i += static_cast<int>(gridDim.x) * kThreads) {
    int row = i / chunks_a_row, chunk = i % chunks_a_row;
    int column = chunk / 4 * 32 + chunk % 4 * 2;
    float values[kChunk];
    uint4 parts[3];
#pragma unroll
    for (int j = 0; j < kChunk / 2; ++j) {
      bool there = row < experts && column + 8 * j < width;
      float2 pair = there ? *reinterpret_cast<const float2*>(from + static_cast<int64_t>(row) * width + column + 8 * j) : make_float2(0.0f, 0.0f);
      values[2 * j] = pair.x;
      values[2 * j + 1] = pair.y;
    }
    split_chunk(values, parts);
    to[i] = parts[0];
    to[chunks + i] = parts[1];
  }
}

// parts: [3, E, D].
__global__ void __launch_bounds__(kThreads, 1) forward_tiles(const bf16* x, const bf16* parts, float* logits, int64_t tokens, int experts, int width) {
  extern __shared__ uint4 tiles[];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int warp_row = (warp >> 1 & 1) * 64, warp_column = (warp & 1) * 32, warp_depth = warp >> 2;
  int expert_tiles = (experts + kExpertTile - 1) / kExpertTile;
  int64_t first_token = static_cast<int64_t>(blockIdx.x / expert_tiles) * kForwardTokens;
  int first_expert = static_cast<int>(blockIdx.x % expert_tiles) * kExpertTile;

  // A thread has the same chunk of every 32nd row. Swizzled, rows that are eight apart have their chunks in the same order.
  int row = threadIdx.x >> 3, chunk = threadIdx.x & 7, place = swizzled(row, chunk, kForwardChunks);
  const bf16* from_x = x + (first_token + row) * width + chunk * kChunk;
  const bf16* from_parts = parts + static_cast<int64_t>(first_expert + row) * width + chunk * kChunk;
  int64_t rows = 32 * static_cast<int64_t>(width), part_stride = static_cast<int64_t>(experts) * width;
  int tokens_left = static_cast<int>(tokens - first_token < kForwardTokens ? tokens - first_token : kForwardTokens) - row;
  int experts_left = experts - first_expert - row;
  auto copy = [&](int step, int stage) {
    uint4* to = tiles + stage * kForwardStage + place;
    int column = step * kForwardDepth;
    bool within = column + chunk * kChunk < width;
#pragma unroll
    for (int i = 0; i < kForwardTokens / 32; ++i) {
      copy_async(to + 32 * i * kForwardChunks, from_x + column + i * rows, within && 32 * i < tokens_left);
    }
    to += kForwardTokens * kForwardChunks;
#pragma unroll
    for (int i = 0; i < 3 * kExpertTile / 32; ++i) {
      copy_async(to + 32 * i * kForwardChunks, from_parts + column + i / 2 * part_stride + i % 2 * rows, within && i % 2 * 32 < experts_left);
    }
  };

  float large[4][4][4] = {}, small[4][4][4] = {};
  pipeline<kForwardStages>((width + kForwardDepth - 1) / kForwardDepth, copy, [&](int, int stage) {
    const uint4* rows = tiles + stage * kForwardStage;
    const uint4* weights = rows + kForwardTokens * kForwardChunks;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      int chunk = (2 * warp_depth + half) * 2;
      unsigned a[4][4];
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        load_matrices(rows + swizzled(warp_row + 16 * m + (lane & 15), chunk + (lane >> 4), kForwardChunks), a[m]);
      }
#pragma unroll
      for (int part = 2; part >= 0; --part) {
        auto& sums = part == 0 ? large : small;
        unsigned b[2][4];
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          int row = part * kExpertTile + warp_column + 16 * pair + (lane & 7) + (lane >> 4) * 8;
          load_matrices(weights + swizzled(row, chunk + (lane >> 3 & 1), kForwardChunks), b[pair]);
        }
#pragma unroll
        for (int m = 0; m < 4; ++m) {
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            multiply_add(sums[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
          }
        }
      }
    }
  });

  // The sums over the second halves go through shared memory to the warps that have the first.
  await_copies<0>();
  __syncthreads();
  float* handed = reinterpret_cast<float*>(tiles) + (threadIdx.x & 127);
#pragma unroll
  for (int m = 0; m < 4; ++m) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        large[m][n][i] += small[m][n][i];
        if (warp_depth == 1) {
          handed[((m * 4 + n) * 4 + i) * 128] = large[m][n][i];
        }
      }
    }
  }
  __syncthreads();
  if (warp_depth == 1) {
    return;
  }
#pragma unroll
  for (int m = 0; m < 4; ++m) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      int expert = first_expert + warp_column + 8 * n + (lane & 3) * 2;
#pragma unroll
      for (int below = 0; below < 2; ++below) {
        int64_t token = first_token + warp_row + 16 * m + 8 * below + (lane >> 2);
        const float* other = handed + ((m * 4 + n) * 4 + 2 * below) * 128;
        if (token < tokens && expert < experts) {
          *reinterpret_cast<float2*>(logits + token * experts + expert) =
              make_float2(large[m][n][2 * below] + other[0], large[m][n][2 * below + 1] + other[128]);
        }
      }
    }
  }
}

// arriving: the parts [3, T, E]; weights: what split_interleaved makes. A block has 32 kTiles tokens.
template <int kTiles>
__global__ void __launch_bounds__(kThreads, 1)
    x_gradient_tiles(const bf16* arriving, const uint4* weights, bf16* gradient, int64_t tokens, int experts, int width, int padded_experts, int padded_width) {
  extern __shared__ uint4 tiles[];
  constexpr int kTokens = 32 * kTiles;
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int warp_row = (warp >> 2) * 16 * kTiles, warp_column = (warp & 3) * 32;
  int64_t first_token = static_cast<int64_t>(blockIdx.x) * kTokens;
  int expert_chunks = padded_experts / kChunk, expert_tiles = padded_experts / kExpertTile;
  uint4* stages = tiles + 2 * kTokens * expert_chunks;

  // With the first stage's copies, and awaited with them.
  for (int i = threadIdx.x; i < 2 * kTokens * expert_chunks; i += kThreads) {
    int row = i / expert_chunks, chunk = i % expert_chunks, part = row / kTokens;
    int64_t token = first_token + row % kTokens;
    bool there = token < tokens && chunk * kChunk < experts;
    copy_async(tiles + swizzled(row, chunk, expert_chunks), there ? arriving + (part * tokens + token) * experts + chunk * kChunk : arriving, there);
  }

  // A thread has the same chunk of every 16th row of both parts. Steps go over the experts first, and then over the columns.
  int steps = padded_width / kRowsColumns * expert_tiles, row_chunks = padded_width / kChunk;
  int row = threadIdx.x >> 4, chunk = threadIdx.x & 15, place = swizzled(row, chunk, 16);
  const uint4* from = weights + row * row_chunks + chunk;
  int copied_tile = 0, copied_columns = 0;
  auto copy = [&](int step, int stage) {
    uint4* to = stages + stage * kRowsStage + place;
    const uint4* at = from + copied_tile * kExpertTile * row_chunks + copied_columns;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      copy_async(to + 16 * i * 16, at + (i / 4 * padded_experts + i % 4 * 16) * row_chunks, step < steps);
    }
    bool last = ++copied_tile == expert_tiles;
    copied_tile = last ? 0 : copied_tile;
    copied_columns += last ? kRowsColumns / kChunk : 0;
  };

  float sums[kTiles][4][4];
  int expert_tile = 0, first_column = 0;
  pipeline<kRowsStages>(steps, copy, [&](int, int stage) {
    if (expert_tile == 0) {
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
#pragma unroll
        for (int n = 0; n < 4; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            sums[m][n][i] = 0;
          }
        }
      }
    }
    const uint4* rows = stages + stage * kRowsStage;
#pragma unroll
    for (int depth = 0; depth < kExpertTile / 16; ++depth) {
      unsigned a[2][kTiles][4], b[2][2][4];
#pragma unroll
      for (int part = 0; part < 2; ++part) {
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
          int row = part * kTokens + warp_row + 16 * m + (lane & 15);
          load_matrices(tiles + swizzled(row, expert_tile * 8 + depth * 2 + (lane >> 4), expert_chunks), a[part][m]);
        }
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          int row = part * kExpertTile + depth * 16 + (lane & 15);
          load_transposed(rows + swizzled(row, (warp_column + 16 * pair) / kChunk + (lane >> 4), 16), b[part][pair]);
        }
      }
#pragma unroll
      for (int product = 0; product < 3; ++product) {  // the small ones first
        int of_a = product == 0 ? 1 : 0, of_b = product == 1 ? 1 : 0;
#pragma unroll
        for (int m = 0; m < kTiles; ++m) {
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            multiply_add(sums[m][n], a[of_a][m], b[of_b][n / 2][n % 2 * 2], b[of_b][n / 2][n % 2 * 2 + 1]);
          }
        }
      }
    }
    if (++expert_tile < expert_tiles) {
      return;
    }
    int column = first_column + warp_column + (lane & 3) * kChunk;
    expert_tile = 0;
    first_column += kRowsColumns;
    if (column < width) {
#pragma unroll
      for (int m = 0; m < kTiles; ++m) {
#pragma unroll
        for (int below = 0; below < 2; ++below) {
          int64_t token = first_token + warp_row + 16 * m + 8 * below + (lane >> 2);
          if (token < tokens) {
            unsigned pairs[4];
#pragma unroll
            for (int n = 0; n < 4; ++n) {
              pairs[n] = narrow_pair(sums[m][n][2 * below], sums[m][n][2 * below + 1]);
            }
            *reinterpret_cast<uint4*>(gradient + token * width + column) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
          }
        }
      }
    }
  });
}

// arriving: the parts [3, T, E]; slices: [gridDim.y, E, D], of `slice` tokens each.
__global__ void __launch_bounds__(kThreads, 1)
    weight_gradient_tiles(const bf16* x, const bf16* arriving, float* slices, int64_t tokens, int experts, int width, int64_t slice) {
  extern __shared__ uint4 tiles[];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int warp_row = (warp >> 2) * 32, warp_column = (warp & 3) * 64;
  int expert_tiles = (experts + kExpertTile - 1) / kExpertTile;
  int first_expert = static_cast<int>(blockIdx.x % expert_tiles) * kExpertTile;
  int first_column = static_cast<int>(blockIdx.x / expert_tiles) * kWeightColumns;
  int64_t begin = blockIdx.y * slice, end = begin + slice < tokens ? begin + slice : tokens;
  constexpr int kXChunks = kWeightColumns / kChunk, kPartRows = 3 * kWeightDepth;

  // A thread has one chunk of each part, and the same chunk of every eighth row of x.
  int count = static_cast<int>(end - begin);
  int part_row = threadIdx.x >> 3, part_chunk = threadIdx.x & 7, x_row = threadIdx.x >> 5, x_chunk = threadIdx.x & 31;
  int part_place = swizzled(part_row, part_chunk, 8), x_place = kPartRows * 8 + swizzled(x_row, x_chunk, kXChunks);
  bool part_there = first_expert + part_chunk * kChunk < experts, x_there = first_column + x_chunk * kChunk < width;
  const bf16* from_parts = arriving + (begin + part_row) * experts + first_expert + part_chunk * kChunk;
  const bf16* from_x = x + (begin + x_row) * width + first_column + x_chunk * kChunk;
  int64_t part_stride = tokens * experts;
  auto copy = [&](int step, int stage) {
    uint4* to = tiles + stage * kWeightStage;
    int first = step * kWeightDepth;
    const bf16* parts = from_parts + static_cast<int64_t>(first) * experts;
    const bf16* rows = from_x + static_cast<int64_t>(first) * width;
#pragma unroll
    for (int part = 0; part < 3; ++part) {
      copy_async(to + part_place + part * kWeightDepth * 8, parts + part * part_stride, part_there && first + part_row < count);
    }
#pragma unroll
    for (int i = 0; i < kWeightDepth / 8; ++i) {
      copy_async(to + x_place + 8 * i * kXChunks, rows + 8 * i * static_cast<int64_t>(width), x_there && first + x_row + 8 * i < count);
    }
  };

  float large[2][8][4] = {}, small[2][8][4] = {};
  pipeline<kWeightStages>((count + kWeightDepth - 1) / kWeightDepth, copy, [&](int, int stage) {
    const uint4* parts = tiles + stage * kWeightStage;
    const uint4* rows = parts + kPartRows * 8;
#pragma unroll
    for (int depth = 0; depth < kWeightDepth / 16; ++depth) {
      unsigned b[4][4];
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        load_transposed(rows + swizzled(depth * 16 + (lane & 15), (warp_column + 16 * pair) / kChunk + (lane >> 4), kXChunks), b[pair]);
      }
#pragma unroll
      for (int part = 2; part >= 0; --part) {
        auto& sums = part == 0 ? large : small;
        unsigned a[2][4];
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          int row = part * kWeightDepth + depth * 16 + (lane & 7) + (lane >> 4) * 8;
          load_transposed(parts + swizzled(row, (warp_row + 16 * m) / kChunk + (lane >> 3 & 1), 8), a[m]);
        }
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
          for (int n = 0; n < 8; ++n) {
            multiply_add(sums[m][n], a[m], b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
          }
        }
      }
    }
  });

  float* to = slices + static_cast<int64_t>(blockIdx.y) * experts * width;
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      int column = first_column + warp_column + 8 * n + (lane & 3) * 2;
#pragma unroll
      for (int below = 0; below < 2; ++below) {
        int expert = first_expert + warp_row + 16 * m + 8 * below + (lane >> 2);
        if (expert < experts && column < width) {
          *reinterpret_cast<float2*>(to + static_cast<int64_t>(expert) * width + column) =
              make_float2(large[m][n][2 * below] + small[m][n][2 * below], large[m][n][2 * below + 1] + small[m][n][2 * below + 1]);
        }
      }
    }
  }
}

// to = the slices' sum, first to last; zeros of none.
__global__ void __launch_bounds__(kThreads) add_slices(const float4* slices, float4* to, int64_t vectors, int count) {
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= vectors) {
    return;
  }
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  for (int first = 0; first < count; first += kAhead) {
    float4 terms[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (first + j < count) {
        terms[j] = slices[(first + j) * vectors + i];
      }
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (first + j < count) {
        sum.x += terms[j].x;
        sum.y += terms[j].y;
        sum.z += terms[j].z;
        sum.w += terms[j].w;
      }
    }
  }
  to[i] = sum;
}

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

unsigned grid(int64_t count) {
  int64_t blocks = (count + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < (1 << 30) ? blocks : (1 << 30));
}

int64_t expert_tiles(const RouterProduct& x) { return (x.experts + kExpertTile - 1) / kExpertTile; }
int64_t padded_experts(const RouterProduct& x) { return rounded_up(x.experts, kExpertTile); }
int64_t padded_width(const RouterProduct& x) { return rounded_up(x.width, kRowsColumns); }
int64_t weight_tiles(const RouterProduct& x) { return (x.width + kWeightColumns - 1) / kWeightColumns * expert_tiles(x); }

// Tokens of a slice, and slices.
int64_t slice_of(const RouterProduct& x) {
  int64_t wanted = weight_tiles(x) < kWeightBlocks ? kWeightBlocks / weight_tiles(x) : 1;
  return rounded_up(x.tokens > 0 ? (x.tokens + wanted - 1) / wanted : 1, kWeightDepth);
}
int64_t slices_of(const RouterProduct& x) { return (x.tokens + slice_of(x) - 1) / slice_of(x); }

// Backward's workspace: the parts of what arrives, those of the weight, the slices; each a multiple of 16 bytes.
int64_t arriving_bytes(const RouterProduct& x) { return 3 * x.tokens * x.experts * 2; }
int64_t weight_bytes(const RouterProduct& x) { return x.x_gradient == nullptr ? 0 : 2 * padded_experts(x) * padded_width(x) * 2; }
int64_t slices_bytes(const RouterProduct& x) { return x.weight_gradient == nullptr ? 0 : slices_of(x) * x.experts * x.width * 4; }

template <int kTiles>
void x_gradient(const RouterProduct& x, const bf16* arriving, const uint4* weights, void* on) {
  constexpr int64_t kTokens = 32 * kTiles;
  size_t shared = (static_cast<size_t>(2 * kTokens * padded_experts(x) / kChunk) + kRowsStages * kRowsStage) * sizeof(uint4);
  allow_shared(reinterpret_cast<const void*>(x_gradient_tiles<kTiles>), shared, "gradient of the router's rows");
  x_gradient_tiles<kTiles><<<static_cast<unsigned>((x.tokens + kTokens - 1) / kTokens), kThreads, shared, stream(on)>>>(
      arriving, weights, static_cast<bf16*>(x.x_gradient), x.tokens, static_cast<int>(x.experts), static_cast<int>(x.width),
      static_cast<int>(padded_experts(x)), static_cast<int>(padded_width(x)));
  check_launch("gradient of the router's rows");
}

}  // namespace

bool router_product_fits(const RouterProduct& x) {
  return x.experts % kChunk == 0 && x.experts <= kMostExperts && x.width % kChunk == 0 && x.width <= 1 << 20 && x.tokens <= 1 << 30 &&
         aligned(x.x, x.weight, x.logits, x.arriving, x.x_gradient, x.weight_gradient);
}

int64_t router_product_workspace(const RouterProduct& x) {
  return x.logits != nullptr ? 3 * x.experts * x.width * 2 : arriving_bytes(x) + weight_bytes(x) + slices_bytes(x);
}

void router_product_forward(const RouterProduct& x, void* workspace, void* on) {
  if (x.tokens == 0 || x.experts == 0) {
    return;
  }
  int64_t chunks = x.experts * x.width / kChunk;
  if (chunks > 0) {
    split_all<<<grid(chunks), kThreads, 0, stream(on)>>>(x.weight, static_cast<uint4*>(workspace), chunks);
    check_launch("parts of the router's weight");
  }
  constexpr size_t kShared = kForwardStages * kForwardStage * sizeof(uint4);
  allow_shared(reinterpret_cast<const void*>(forward_tiles), kShared, "router product");
  int64_t blocks = (x.tokens + kForwardTokens - 1) / kForwardTokens * expert_tiles(x);
  forward_tiles<<<static_cast<unsigned>(blocks), kThreads, kShared, stream(on)>>>(
      static_cast<const bf16*>(x.x), static_cast<const bf16*>(workspace), x.logits, x.tokens, static_cast<int>(x.experts), static_cast<int>(x.width));
  check_launch("router product");
}

void router_product_backward(const RouterProduct& x, void* workspace, void* on) {
  if (x.experts == 0 || x.width == 0) {
    return;
  }
  char* at = static_cast<char*>(workspace);
  uint4* arriving = reinterpret_cast<uint4*>(at);
  uint4* weights = reinterpret_cast<uint4*>(at + arriving_bytes(x));
  float* slices = reinterpret_cast<float*>(at + arriving_bytes(x) + weight_bytes(x));
  if (x.tokens > 0) {
    int64_t chunks = x.tokens * x.experts / kChunk;
    split_all<<<grid(chunks), kThreads, 0, stream(on)>>>(x.arriving, arriving, chunks);
    check_launch("parts of the logits' gradient");
  }
  const bf16* parts = reinterpret_cast<const bf16*>(arriving);
  if (x.x_gradient != nullptr && x.tokens > 0) {
    int64_t chunks = padded_experts(x) * padded_width(x) / kChunk;
    split_interleaved<<<grid(chunks), kThreads, 0, stream(on)>>>(x.weight, weights, static_cast<int>(x.experts), static_cast<int>(x.width),
                                                                 static_cast<int>(padded_experts(x)), static_cast<int>(padded_width(x)));
    check_launch("parts of the router's weight");
    x.experts <= 128 ? x_gradient<4>(x, parts, weights, on) : x_gradient<2>(x, parts, weights, on);
  }
  if (x.weight_gradient != nullptr) {
    int count = static_cast<int>(slices_of(x));
    if (count > 0) {
      constexpr size_t kShared = kWeightStages * kWeightStage * sizeof(uint4);
      allow_shared(reinterpret_cast<const void*>(weight_gradient_tiles), kShared, "gradient of the router's weight");
      dim3 blocks(static_cast<unsigned>(weight_tiles(x)), static_cast<unsigned>(count));
      weight_gradient_tiles<<<blocks, kThreads, kShared, stream(on)>>>(static_cast<const bf16*>(x.x), parts, slices, x.tokens, static_cast<int>(x.experts),
                                                                       static_cast<int>(x.width), slice_of(x));
      check_launch("gradient of the router's weight");
    }
    int64_t vectors = x.experts * x.width / 4;
    add_slices<<<grid(vectors), kThreads, 0, stream(on)>>>(reinterpret_cast<const float4*>(slices), reinterpret_cast<float4*>(x.weight_gradient), vectors, count);
    check_launch("sum of slices");
  }
}

void split(const float* from, void* to, const Blocks& blocks, const Parts& parts, void* on) {
  if (blocks.rows * blocks.width > 0) {
    split_elements<<<grid(blocks.rows * blocks.width), kThreads, 0, stream(on)>>>(from, static_cast<bf16*>(to), blocks, parts);
    check_launch("split");
  }
}

void add_blocks(const float* from, float* to, const Blocks& blocks, void* on) {
  if (blocks.rows * blocks.width > 0) {
    add_elements<<<grid(blocks.rows * blocks.width), kThreads, 0, stream(on)>>>(from, to, blocks);
    check_launch("sum of blocks");
  }
}

}  // namespace moe::cuda

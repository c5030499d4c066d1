// Stages of a grouped product on Hopper: the ring of them in shared memory, what is asked for into one, and how warps hand it back.
#pragma once

#include "kernels/cuda.cuh"
#include "kernels/hopper.cuh"
#include "kernels/hopper_results.cuh"
#include "kernels/hopper_tiles.cuh"

namespace moe::cuda::hopper {

constexpr int kStages = 4;
constexpr int kTickets = 2;        // tiles known ahead
constexpr int kBox = 64 * 64 * 2;  // bytes of a box of 64 x 64
constexpr int kLeftBytes = kRows * kDepth * 2;
constexpr int kRightBytes = kColumns * kDepth * 2;
constexpr int kStageBytes = kLeftBytes + kRightBytes;
constexpr int kPanelBytes = kRows * 64 * 2;  // of a block's rows of 64 columns, of which a stage of an epilogue has up to three
static_assert(kStepSlots * kPanelBytes <= kStageBytes);

// full: a stage's bytes have come. empty: both blocks' warps are done with it. The same of tickets: a tile's number has come, was read by all.
struct Shared {
  uint8_t stages[kStages][kStageBytes];
  uint8_t results[kWarps][kBoxes * kBoxBytes];
  uint64_t full[kStages];
  uint64_t empty[kStages];
  uint64_t ticket_full[kTickets];
  uint64_t ticket_empty[kTickets];
  int ticket[kTickets];
  int ends[kMostGroups];
};
constexpr int kSharedBytes = sizeof(Shared) + 1024;  // its start is rounded up

// A place in a ring, and the parity of its present round.
template <int kPlaces>
struct Turn {
  int place = 0;
  uint32_t parity = 0;

  __device__ __forceinline__ void next() {
    if (++place == kPlaces) {
      place = 0;
      parity ^= 1;
    }
  }
};

template <Form kForm>
__device__ __forceinline__ void fetch(const Tile& tile, int step, int rank, int width, uint32_t stage, uint32_t full, const CUtensorMap& a,
                                      const CUtensorMap& b) {
  constexpr uint16_t kBoth = 3;
  uint32_t right = stage + kLeftBytes + rank * (kRightBytes / 2);
  int column = tile.column + rank * (kForm == Form::kGated ? width : kColumns / 2);
  barrier_expect(full, kRightBytes + (tile.rows > 0 ? kLeftBytes : 0));
  if constexpr (kIsMatrices<kForm>) {
    int at = tile.start + step * kDepth;
    if (tile.rows > 0) {
      load_box(stage, a, full, tile.row, at, 0);
      load_box(stage + kBox, a, full, tile.row + 64, at, 0);
    }
    load_box(right, b, full, column, at, 0, kBoth);
    load_box(right + kBox, b, full, column + 64, at, 0, kBoth);
  } else {
    int at = step * kDepth;
    if (tile.rows > 0) {
      load_box(stage, a, full, at, tile.row, 0);
    }
    if constexpr (kIsDeep<kForm>) {
      load_box(right, b, full, at, column, tile.group, kBoth);
    } else {
      load_box(right, b, full, column, at, tile.group, kBoth);
      load_box(right + kBox, b, full, column + 64, at, tile.group, kBoth);
    }
  }
}

// Asks for the boxes of a stage of an epilogue; nothing but this block's own. R: the rule by which matrices are stepped.
template <Form kForm, class R>
__device__ __forceinline__ void fetch_epilogue(const Tile& tile, int step, int width, uint32_t stage, uint32_t full, const EpilogueOf<kForm>& from) {
  constexpr int kPanels = kForm == Form::kStepped ? R::kSlots - 1 : 2;
  int column = tile.column + step * 64;
  barrier_expect(full, tile.rows > 0 ? kPanels * kPanelBytes : 0);
  if (tile.rows > 0) {
#pragma unroll
    for (int i = 0; i < kPanels; ++i) {
      if constexpr (kForm == Form::kStepped) {
        load_box(stage + i * kPanelBytes, from.read[i], full, column, tile.row, tile.group);
      } else {
        load_box(stage + i * kPanelBytes, from.hidden, full, i * width + column, tile.row, 0);
      }
    }
  }
}

// The warp is done with a stage, as far as both blocks' askers are concerned: each has filled half of the right factor of both.
__device__ __forceinline__ void release(Shared& shared, int place) {
  int lane = threadIdx.x % 32;
  __syncwarp();
  if (lane < kBlocks) {
    barrier_arrive(shared_address(&shared.empty[place]), lane);
  }
}

// Calls work(box, its place in shared memory) for the warp's part of each stage of an epilogue: it changes what has arrived there, and commits the stores from
// there as one group.
template <class Work>
__device__ __forceinline__ void each_epilogue_box(const Tile& tile, Shared& shared, int warp, Turn<kStages>& stage, Work work) {
  int before = 0;
#pragma unroll
  for (int box = 0; box < kColumns / 64; ++box) {
    if (box < tile.epilogue_stages) {
      barrier_wait(shared_address(&shared.full[stage.place]), stage.parity);
      work(box, shared_address(shared.stages[stage.place]) + warp * kBoxBytes);
      if (box > 0) {
        if (threadIdx.x % 32 == 0) {
          stores_wait_read<1>();
        }
        release(shared, before);
      }
      before = stage.place;
      stage.next();
    }
  }
  if (tile.epilogue_stages > 0) {
    if (threadIdx.x % 32 == 0) {
      stores_wait_read<0>();
    }
    release(shared, before);
  }
}

}  // namespace moe::cuda::hopper

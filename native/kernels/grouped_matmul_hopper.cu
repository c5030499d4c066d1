// Grouped products of bfloat16 on Hopper's tensor cores: one kernel that stays on the device and takes tiles of all groups, whose sizes it reads there.
//
// A tile is 256 x 256 of one group's result, worked by a cluster of two blocks, 128 x 256 each: the 256-wide factor is fetched once for both, each block
// fetching a half into both shared memories. A block has one thread that asks for boxes of 64 along the sum, four stages ahead, and two warpgroups of
// 64 x 256 sums in registers. Per stage a multiprocessor multiplies 128 x 256 x 64 in 1024 cycles at the tensor cores' rate and takes 48 KiB, of which
// the second cache gives 32 KiB. Results leave through shared memory, two boxes of 64 columns at a time, while the next tile's factors arrive.
//
// Tiles are handed out by a ticket counter, so that blocks that start late, beside another kernel's, leave no tile waiting. A tile's sum runs in one order,
// whichever block has it: the same bits on every run.
//
// A product that changes other tensors where they stand, or is changed by them, doesn't go to memory: a tile has an epilogue of further stages, in which boxes
// of these tensors come through the ring, are worked in place and stored from there, while the next tile's factors arrive behind them.
//
// Of matrices, which are gradients, each warp leaves the sum of the squares of what it stores, so that their norm takes no pass over them.
//
// Rows beyond a group's end: where rows are of the result they are computed and not stored. Where the sum runs over rows, each group has maps of its own,
// made before on the device, whose tensors end where the group does: copies bring zeros from there on.
#include "kernels/cuda.cuh"
#include "kernels/grouped_matmul.h"
#include "kernels/hopper.cuh"
#include "kernels/hopper_maps.h"
#include "kernels/hopper_results.cuh"
#include "kernels/hopper_stages.cuh"
#include "kernels/hopper_tiles.cuh"
#include "kernels/optimizer.cuh"

namespace moe::cuda {
namespace {

using namespace hopper;

constexpr int kThreads = 3 * kGroup;

// The warpgroup's 64 x 256 sums of a tile.
template <Form kForm>
__device__ __forceinline__ void sum(float (&d)[128], const Tile& tile, Shared& shared, int member, Turn<kStages>& stage) {
  constexpr int kAcrossA = kIsMatrices<kForm> ? 1 : 0;
  constexpr int kAcrossB = kIsDeep<kForm> ? 0 : 1;
  constexpr int kEight = 8 * 128;  // bytes of 8 rows in shared memory
  // Of 16 more along the sum, in units of 16 bytes.
  constexpr uint64_t kStepA = (kAcrossA ? 2 * kEight : 32) / 16, kStepB = (kAcrossB ? 2 * kEight : 32) / 16;
  int before = 0;
#pragma unroll 1
  for (int step = 0; step < tile.stages; ++step) {
    barrier_wait(shared_address(&shared.full[stage.place]), stage.parity);
    uint32_t left = shared_address(shared.stages[stage.place]) + member * kBox, right = shared_address(shared.stages[stage.place]) + kLeftBytes;
    uint64_t a = factor(left, kEight, 0), b = factor(right, kEight, kAcrossB ? kBox : 0);
    products_begin();
#pragma unroll
    for (int i = 0; i < kDepth / 16; ++i) {
      multiply_64x256x16<kAcrossA, kAcrossB>(d, a + i * kStepA, b + i * kStepB, step > 0 || i > 0);
    }
    products_commit();
    products_wait<1>();  // those of the stage before
    if (step > 0) {
      release(shared, before);
    }
    before = stage.place;
    stage.next();
  }
  products_wait<0>();
  hold(d);
  release(shared, before);
}

// The warpgroup's sums of a tile as gradients: steps the matrices' numbers there. Returns the lane's part of the sum of the gradients' squares.
template <class R>
__device__ __forceinline__ double step(const float (&d)[128], const Tile& tile, int row, const Stepping& by, Shared& shared, int warp, Turn<kStages>& stage) {
  ShortAdam<false> rule([&](int i) { return __ldg(by.coefficients + tile.group * R::kCoefficients + i); });
  double squares = 0;
  each_epilogue_box(tile, shared, warp, stage, [&](int box, uint32_t slots) {
    unsigned pairs[16];
    round_box(d + box * 32, pairs);
    step_box<R>(pairs, rule, by, tile.group, row, tile.column + box * 64, slots, kPanelBytes);
    add_squares(pairs, squares);
  });
  return squares;
}

// The warpgroup's sums of a tile as gradients of an activation: makes it once more, and the gradients of what it was made of. Of the warp's rows only the first
// `rows` are the group's.
__device__ __forceinline__ void gated_backward(const float (&d)[128], const Tile& tile, int row, int rows, const Problem& x, const CUtensorMap& c,
                                               const CUtensorMap& e, const Gating& of, Shared& shared, int warp, Turn<kStages>& stage) {
  float weights[2], sums[2] = {0, 0};
  load_weights(x, row, rows, weights);
  each_epilogue_box(tile, shared, warp, stage, [&](int box, uint32_t gates) {
    gated_backward_box(d + box * 32, weights, sums, row, rows, tile.column + box * 64, x, c, e, gates, kPanelBytes);
  });
  if (of.weight_sums != nullptr) {
    leave_weight_sums(sums, tile, row, rows, x.width, of.weight_sums);
  }
}

// R: the rule by which matrices are stepped; of other forms any.
template <Form kForm, class R>
__global__ void __cluster_dims__(kBlocks, 1, 1) __launch_bounds__(kThreads, 1)
    multiply(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b, const __grid_constant__ CUtensorMap c,
             const __grid_constant__ CUtensorMap e, const Problem x, const __grid_constant__ EpilogueOf<kForm> by) {
  extern __shared__ uint8_t raw[];
  Shared& shared = *reinterpret_cast<Shared*>((reinterpret_cast<uintptr_t>(raw) + 1023) / 1024 * 1024);
  int rank = static_cast<int>(cluster_rank());
  if (threadIdx.x == 0) {
    prefetch_map(a);
    prefetch_map(b);
    prefetch_map(c);
    prefetch_map(e);
    for (int i = 0; i < kStages; ++i) {
      barrier_init(shared_address(&shared.full[i]), 1);
      barrier_init(shared_address(&shared.empty[i]), kBlocks * kWarps);
    }
    for (int i = 0; i < kTickets; ++i) {
      barrier_init(shared_address(&shared.ticket_full[i]), 1);
      barrier_init(shared_address(&shared.ticket_empty[i]), kBlocks * kWarps + 1);  // the other block's asking thread
    }
    barrier_fence();
  }
  for (int i = threadIdx.x; i < x.groups; i += kThreads) {
    shared.ends[i] = x.ends[i];
  }
  __syncthreads();
  cluster_sync();

  Walk<kForm> walk{x, by, shared.ends};
  Turn<kStages> stage;
  Turn<kTickets> turn;
  Tile tile;
  if (threadIdx.x < kGroup) {
    fewer_registers<40>();
    if (threadIdx.x == 0) {
      int drawn = rank == 0 ? atomicAdd(x.ticket, 1) : 0;
      while (true) {
        int number = drawn;
        uint32_t ticket = shared_address(&shared.ticket[turn.place]), known = shared_address(&shared.ticket_full[turn.place]),
                 taken = shared_address(&shared.ticket_empty[turn.place]);
        if (rank == 0) {
          barrier_wait(taken, turn.parity ^ 1);
          barrier_expect(known, sizeof(int));
          for (int block = 0; block < kBlocks; ++block) {
            send(ticket, known, block, number);
          }
        } else {
          barrier_expect(known, sizeof(int));
          barrier_wait(known, turn.parity);
          number = load_shared(ticket);
          barrier_arrive(taken, 0);
        }
        turn.next();
        if (!walk.find(number, rank, tile)) {
          break;
        }
        int late = max(0, tile.stages - kStages);  // just early enough to arrive: a number that is held is a tile that idle blocks can't take
        const CUtensorMap& left = kIsMatrices<kForm> ? x.maps[2 * tile.group] : a;
        const CUtensorMap& right = kIsMatrices<kForm> ? x.maps[2 * tile.group + 1] : b;
        if constexpr (kIsMatrices<kForm>) {
          acquire_map(&left);
          acquire_map(&right);
        }
        for (int step = 0; step < tile.stages; ++step, stage.next()) {
          if (rank == 0 && step == late) {
            drawn = atomicAdd(x.ticket, 1);
          }
          barrier_wait(shared_address(&shared.empty[stage.place]), stage.parity ^ 1);
          fetch<kForm>(tile, step, rank, x.width, shared_address(shared.stages[stage.place]), shared_address(&shared.full[stage.place]), left, right);
        }
        if constexpr (kHasEpilogue<kForm>) {
          for (int step = 0; step < tile.epilogue_stages; ++step, stage.next()) {
            barrier_wait(shared_address(&shared.empty[stage.place]), stage.parity ^ 1);
            fetch_epilogue<kForm, R>(tile, step, x.width, shared_address(shared.stages[stage.place]), shared_address(&shared.full[stage.place]), by);
          }
        }
      }
    }
  } else {
    more_registers<232>();
    int member = threadIdx.x / kGroup - 1;  // which of the two warpgroups
    int lane = threadIdx.x % 32;
    int warp = threadIdx.x / 32 - kGroup / 32, used = 0;
    while (true) {
      barrier_wait(shared_address(&shared.ticket_full[turn.place]), turn.parity);
      int number = load_shared(shared_address(&shared.ticket[turn.place]));
      __syncwarp();
      if (lane == 0) {
        barrier_arrive(shared_address(&shared.ticket_empty[turn.place]), 0);
      }
      turn.next();
      if (!walk.find(number, rank, tile)) {
        break;
      }
      int rows = min(tile.rows - member * 64, 64);
      if (rows > 0) {
        float d[128];
        sum<kForm>(d, tile, shared, member, stage);
        int down = warp % 4 * kBoxRows;
        int first = tile.row + member * 64 + down;
        uint32_t boxes = shared_address(shared.results[warp]);
        if constexpr (kForm == Form::kGated) {
          store_gated(d, tile, first, rows - down, x, c, e, boxes, used);
        } else if constexpr (kForm == Form::kGatedBackward) {
          gated_backward(d, tile, first, rows - down, x, c, e, by, shared, warp, stage);
        } else if constexpr (kForm == Form::kStepped) {
          leave_squares(x, number, rank, warp, warp_sum(step<R>(d, tile, first, by, shared, warp, stage)));
        } else {
          double squares = store<kForm>(d, tile, first, rows - down, x, c, boxes, used);
          if constexpr (kForm == Form::kMatrices) {
            leave_squares(x, number, rank, warp, warp_sum(squares));
          }
        }
      } else {
        int stages = tile.stages;
        if constexpr (kIsMatrices<kForm>) {
          leave_squares(x, number, rank, warp, 0);
        }
        if constexpr (kHasEpilogue<kForm>) {
          stages += tile.epilogue_stages;
        }
#pragma unroll 1
        for (int step = 0; step < stages; ++step, stage.next()) {
          barrier_wait(shared_address(&shared.full[stage.place]), stage.parity);
          release(shared, stage.place);
        }
      }
    }
    if (lane == 0) {
      stores_wait();
    }
  }
  __syncwarp();
  cluster_sync();  // no block's shared memory goes while the other may still arrive there
}

// Maps of each group, their tensors cut off behind its rows, and a ticket of 0.
__global__ void __launch_bounds__(kMostGroups)
    cut(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b, const int32_t* ends, int groups, CUtensorMap* maps, int32_t* ticket) {
  int group = threadIdx.x;
  if (group == 0) {
    *ticket = 0;
  }
  if (group < groups) {
    uint32_t size = static_cast<uint32_t>(max(1, ends[group]));  // a tensor has a row at least; nobody asks for that one
    maps[2 * group] = a;
    maps[2 * group + 1] = b;
    resize_map(&maps[2 * group], size);
    resize_map(&maps[2 * group + 1], size);
  }
}

// Gradients of rows' weights [R]: what tiles left of them, added from left to right. Rows of no group are left.
__global__ void __launch_bounds__(kThreads) add_weight_sums(const float* sums, int tiles, const int32_t* ends, int groups, float* to) {
  int64_t rows = ends[groups - 1];
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; row < rows; row += static_cast<int64_t>(gridDim.x) * kThreads) {
    float sum = 0;
    for (int tile = 0; tile < tiles; ++tile) {
      sum += sums[row * tiles + tile];
    }
    to[row] = sum;
  }
}

template <Form kForm, class R = rules::ScaledSum>
void launch(const CUtensorMap& a, const CUtensorMap& b, const CUtensorMap& c, const CUtensorMap& e, const Problem& x, void* on, const EpilogueOf<kForm>& by = {}) {
  check(cudaFuncSetAttribute(multiply<kForm, R>, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes), "shared memory of a grouped product");
  int device = 0, processors = 0;
  check(cudaGetDevice(&device), "the current device");
  check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "the device's multiprocessors");
  if constexpr (kIsMatrices<kForm>) {
    cut<<<1, kMostGroups, 0, stream(on)>>>(a, b, x.ends, x.groups, const_cast<CUtensorMap*>(x.maps), x.ticket);
    check_launch("maps of a grouped product");
  } else {
    check(cudaMemsetAsync(x.ticket, 0, sizeof(int32_t), stream(on)), "the ticket of a grouped product");
  }
  multiply<kForm, R><<<static_cast<unsigned>(processors / kBlocks * kBlocks), kThreads, kSharedBytes, stream(on)>>>(a, b, c, e, x, by);
  check_launch("grouped product");
}

// The product as the gradient of an activation.
void launch_gated_backward(const GroupedRows& x, const GatedBackward& of, void* on) {
  auto a = map_of(x.a, x.k, x.rows, 1, x.a_stride, x.a_stride * x.rows, kDepth, kRows);
  auto b = map_of(x.b, x.n, x.k, x.groups, x.b_stride, x.b_group_stride, 64, kDepth);
  int64_t wide = 2 * x.n;
  auto c = map_of(of.gradient, wide, x.rows, 1, wide, wide * x.rows, 64, kBoxRows);
  auto e = map_of(of.activation, x.n, x.rows, 1, x.n, x.n * x.rows, 64, kBoxRows);
  int tiles = static_cast<int>((x.n + kColumns - 1) / kColumns);
  Gating by{map_of(of.hidden, wide, x.rows, 1, wide, wide * x.rows, 64, kRows), tiles == 1 ? of.weight_gradient : of.weight_sums};
  Problem problem{x.ends, x.ticket, static_cast<int>(x.groups), 0, static_cast<int>(x.n), static_cast<int>(x.k), static_cast<bf16*>(of.gradient),
                  static_cast<bf16*>(of.activation), of.weights, nullptr, nullptr};
  launch<Form::kGatedBackward>(a, b, c, e, problem, on, by);
  if (of.weight_gradient != nullptr && tiles > 1) {
    add_weight_sums<<<grid(x.rows, kThreads), kThreads, 0, stream(on)>>>(of.weight_sums, tiles, x.ends, problem.groups, of.weight_gradient);
    check_launch("gradients of rows' weights");
  }
}

}  // namespace

bool has_grouped_products(int64_t groups) {
  int device = 0, major = 0;
  return groups <= kMostGroups && cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major == 9;
}

void grouped_rows(const GroupedRows& x, void* on) {
  if (x.backward != nullptr) {
    launch_gated_backward(x, *x.backward, on);
    return;
  }
  bool is_gated = x.activation != nullptr;
  int64_t width = is_gated ? x.n / 2 : x.n;
  Problem problem{x.ends, x.ticket, static_cast<int>(x.groups), 0, static_cast<int>(width), static_cast<int>(x.k), static_cast<bf16*>(x.c),
                  static_cast<bf16*>(x.activation), x.weights, nullptr, nullptr};
  auto a = map_of(x.a, x.k, x.rows, 1, x.a_stride, x.a_stride * x.rows, kDepth, kRows);
  auto c = map_of(x.c, x.n, x.rows, 1, x.n, x.n * x.rows, 64, kBoxRows);
  if (!x.is_deep) {
    auto b = map_of(x.b, x.n, x.k, x.groups, x.b_stride, x.b_group_stride, 64, kDepth);
    launch<Form::kRowsWide>(a, b, c, c, problem, on);
    return;
  }
  auto b = map_of(x.b, x.k, x.n, x.groups, x.b_stride, x.b_group_stride, kDepth, kColumns / 2);
  if (is_gated) {
    launch<Form::kGated>(a, b, c, map_of(x.activation, width, x.rows, 1, width, width * x.rows, 64, kBoxRows), problem, on);
  } else {
    launch<Form::kRowsDeep>(a, b, c, c, problem, on);
  }
}

void grouped_matrices(const GroupedMatrices& x, void* on) {
  Problem problem{x.ends, x.ticket, static_cast<int>(x.groups), static_cast<int>(x.m), static_cast<int>(x.n), 0, static_cast<bf16*>(x.c), nullptr, nullptr,
                  static_cast<const CUtensorMap*>(x.maps), x.squares};
  auto a = map_of(x.a, x.m, x.rows, 1, x.a_stride, x.a_stride * x.rows, 64, kDepth);
  auto b = map_of(x.b, x.n, x.rows, 1, x.b_stride, x.b_stride * x.rows, 64, kDepth);
  if (x.step == nullptr) {
    auto c = map_of(x.c, x.n, x.m, x.groups, x.n, x.n * x.m, 64, kBoxRows);
    launch<Form::kMatrices>(a, b, c, c, problem, on);
    return;
  }
  using R = rules::Adam<false>;
  Stepping by{x.step->coefficients, x.step->skips_idle, {}, {}};
  for (int slot = 0; slot < kStepSlots; ++slot) {
    by.read[slot] = map_of(x.step->slots[slot], x.n, x.m, x.groups, x.n, x.n * x.m, 64, kRows);
    by.write[slot] = map_of(x.step->slots[slot], x.n, x.m, x.groups, x.n, x.n * x.m, 64, kBoxRows);
  }
  launch<Form::kStepped, R>(a, b, by.write[0], by.write[0], problem, on, by);
}

}  // namespace moe::cuda

// Packing and unpacking of what travels between ranks, on a GPU.
//
// A packed row of bfloat16 with D = 2048 and k = 8 is 4,160 bytes. 16,384 tokens that go to two ranks each: 64 MiB read and 130 MiB written, 65 us at 3 TB/s.
#include "kernels/cuda.cuh"
#include "kernels/dispatch.h"

namespace moe::cuda {
namespace {

constexpr int kThreads = 256;

// A thread a token; counts are added up within warps, in shared memory and then in device memory: integers, whose sum has no order.
// shared: int32 [ranks, 2].
__global__ void __launch_bounds__(kThreads) plan(PlanDispatch x, int64_t most) {
  extern __shared__ int32_t totals[];
  for (int64_t i = threadIdx.x; i < 2 * x.ranks; i += kThreads) {
    totals[i] = 0;
  }
  __syncthreads();
  int64_t token = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  bool present = token < x.tokens;
  int64_t local = x.experts / x.ranks, filled = 0;
  const int64_t* ids = x.ids + (present ? token * x.slots : 0);
  int64_t* to = x.destinations + token * most;
  for (int64_t rank = 0; rank < x.ranks; ++rank) {
    int choices = 0;
    for (int64_t slot = 0; present && slot < x.slots; ++slot) {
      int64_t id = ids[slot] - rank * local;
      choices += id >= 0 && id < local ? 1 : 0;
    }
    if (choices > 0) {
      to[filled++] = rank;
    }
    int rows = __popc(__ballot_sync(0xffffffffu, choices > 0));
    choices = warp_sum(choices);
    if ((threadIdx.x & 31) == 0 && rows > 0) {
      atomicAdd(totals + 2 * rank, rows);
      atomicAdd(totals + 2 * rank + 1, choices);
    }
  }
  for (; present && filled < most; ++filled) {
    to[filled] = x.ranks;
  }
  __syncthreads();
  for (int64_t i = threadIdx.x; i < 2 * x.ranks; i += kThreads) {
    if (totals[i] != 0) {
      atomicAdd(reinterpret_cast<unsigned long long*>(x.sizes + i), static_cast<unsigned long long>(totals[i]));
    }
  }
}

// A warp a row.
template <typename Word, typename W>
__global__ void __launch_bounds__(kThreads) pack(PackRows x, int64_t words) {
  int lane = threadIdx.x & 31;
  int64_t step = static_cast<int64_t>(gridDim.x) * (kThreads / 32);
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + (threadIdx.x >> 5); row < x.count; row += step) {
    int32_t pair = x.pairs[row];
    int64_t token = pair / x.most, first = x.destinations[pair] * x.local, slots = x.layout.slots;
    char* packed = static_cast<char*>(x.packed) + row * x.layout.stride;
    const Word* from = reinterpret_cast<const Word*>(static_cast<const char*>(x.tokens) + token * x.token_stride);
    Word* to = reinterpret_cast<Word*>(packed);
    int64_t i = lane;
    for (; i + 96 < words; i += 128) {
      Word a = from[i], b = from[i + 32], c = from[i + 64], d = from[i + 96];
      to[i] = a;
      to[i + 32] = b;
      to[i + 64] = c;
      to[i + 96] = d;
    }
    for (; i < words; i += 32) {
      to[i] = from[i];
    }
    W* weights = reinterpret_cast<W*>(packed + x.layout.weights_at);
    int32_t* ids = reinterpret_cast<int32_t*>(packed + x.layout.ids_at);
    int64_t filled = 0;
    for (int64_t start = 0; start < slots; start += 32) {
      int64_t slot = start + lane;
      int64_t id = slot < slots ? x.ids[token * slots + slot] - first : -1;
      bool here = id >= 0 && id < x.local;
      unsigned all = __ballot_sync(0xffffffffu, here);
      if (here) {
        int64_t place = filled + __popc(all & ((1u << lane) - 1u));
        weights[place] = static_cast<const W*>(x.weights)[token * slots + slot];
        ids[place] = static_cast<int32_t>(id);
      }
      filled += __popc(all);
    }
    for (int64_t place = filled + lane; place < slots; place += 32) {
      weights[place] = W(0);
      ids[place] = static_cast<int32_t>(x.local);
    }
  }
}

template <typename W>
__global__ void __launch_bounds__(kThreads) unpack(UnpackChoices x) {
  int64_t slots = x.layout.slots, count = x.count * slots;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += static_cast<int64_t>(gridDim.x) * kThreads) {
    const char* packed = static_cast<const char*>(x.packed) + i / slots * x.layout.stride;
    x.ids[i] = reinterpret_cast<const int32_t*>(packed + x.layout.ids_at)[i % slots];
    static_cast<W*>(x.weights)[i] = reinterpret_cast<const W*>(packed + x.layout.weights_at)[i % slots];
  }
}

// A thread a choice: its rank's row, and its place among the choices of that rank.
template <typename W>
__global__ void __launch_bounds__(kThreads) collect(CollectWeights x) {
  int64_t slots = x.layout.slots, count = x.tokens * slots;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count; i += static_cast<int64_t>(gridDim.x) * kThreads) {
    int64_t token = i / slots, id = x.ids[i];
    W weight = 0;
    if (id >= 0 && id < x.experts) {
      int64_t rank = id / x.local, before = 0;
      for (int64_t other = token * slots; other < i; ++other) {
        int64_t beside = x.ids[other];
        before += beside >= 0 && beside < x.experts && beside / x.local == rank ? 1 : 0;
      }
      for (int64_t place = token * x.most; place < (token + 1) * x.most; ++place) {
        if (x.destinations[place] == rank) {
          const char* packed = static_cast<const char*>(x.packed) + x.places[place] * x.layout.stride;
          weight = reinterpret_cast<const W*>(packed + x.layout.weights_at)[before];
        }
      }
    }
    static_cast<W*>(x.weights)[i] = weight;
  }
}

template <typename W>
void launch_pack(const PackRows& x, void* on) {
  unsigned blocks = grid(x.count, kThreads / 32);
  bool whole = x.layout.row_bytes % 16 == 0 && x.token_stride % 16 == 0 && reinterpret_cast<uintptr_t>(x.tokens) % 16 == 0;
  if (whole) {
    pack<uint4, W><<<blocks, kThreads, 0, stream(on)>>>(x, x.layout.row_bytes / 16);
  } else {
    pack<unsigned short, W><<<blocks, kThreads, 0, stream(on)>>>(x, x.layout.row_bytes / 2);
  }
}

}  // namespace

void plan_dispatch(const PlanDispatch& x, void* on) {
  cudaMemsetAsync(x.sizes, 0, static_cast<size_t>(2 * x.ranks) * sizeof(int64_t), stream(on));
  if (x.tokens > 0) {
    int64_t most = x.slots < x.ranks ? x.slots : x.ranks;
    unsigned blocks = static_cast<unsigned>((x.tokens + kThreads - 1) / kThreads);
    plan<<<blocks, kThreads, static_cast<size_t>(2 * x.ranks) * sizeof(int32_t), stream(on)>>>(x, most);
  }
  check_launch("plan of a dispatch");
}

void pack_rows(const PackRows& x, void* on) {
  if (x.count == 0) {
    return;
  }
  x.layout.wide ? launch_pack<double>(x, on) : launch_pack<float>(x, on);
  check_launch("packing of rows");
}

void unpack_choices(const UnpackChoices& x, void* on) {
  if (x.count == 0) {
    return;
  }
  unsigned blocks = grid(x.count * x.layout.slots, kThreads);
  if (x.layout.wide) {
    unpack<double><<<blocks, kThreads, 0, stream(on)>>>(x);
  } else {
    unpack<float><<<blocks, kThreads, 0, stream(on)>>>(x);
  }
  check_launch("unpacking of choices");
}

void collect_weights(const CollectWeights& x, void* on) {
  if (x.tokens == 0) {
    return;
  }
  unsigned blocks = grid(x.tokens * x.layout.slots, kThreads);
  if (x.layout.wide) {
    collect<double><<<blocks, kThreads, 0, stream(on)>>>(x);
  } else {
    collect<float><<<blocks, kThreads, 0, stream(on)>>>(x);
  }
  check_launch("collection of weights");
}

}  // namespace moe::cuda

// Sorting pairs by expert, and moving and adding rows, on a GPU.
//
// The sort is three kernels: each warp counts the ids of its chunk of pairs, one block takes the sums over experts and then chunks, and each warp gives
// the pairs of its chunk their places in order. A pair's place depends on the ids before it alone. Integers only: the atomics don't touch the result.
// Rows, bfloat16 with D = 2048, T = 16,384 and k = 8: a spread reads 64 MiB and writes 512 MiB, 0.2 ms at 3 TB/s;
// an ordered sum reads 512 MiB and writes 64 MiB, 0.2 ms.
#include "kernels/elements.cuh"
#include "kernels/permute.h"

namespace moe::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kChunk = 512;  // pairs of a warp
constexpr int kScanThreads = 1024;
constexpr int64_t kSharedWords = 12 * 1024;

int64_t chunks_of(int64_t count) { return (count + kChunk - 1) / kChunk; }

// Warps of a block whose counters, one an id and one for the dropped, fit in shared memory.
int warps_of(int64_t experts) {
  int64_t warps = kSharedWords / (experts + 1);
  if (warps == 0) {
    throw std::invalid_argument("the sort of " + std::to_string(experts) + " experts does not fit a block");
  }
  return static_cast<int>(warps < 8 ? warps : 8);
}

__device__ __forceinline__ int bin_of(const int64_t* ids, int64_t pair, int64_t experts) {
  int64_t id = ids[pair];
  return static_cast<int>(id >= 0 && id < experts ? id : experts);
}

// table: [E + 1, chunks].
__global__ void count_chunks(SortPairs x, int64_t chunks, int32_t* table) {
  extern __shared__ int32_t counters[];
  int bins = static_cast<int>(x.experts) + 1;
  int lane = threadIdx.x & 31;
  int32_t* own = counters + (threadIdx.x >> 5) * bins;
  int64_t chunk = static_cast<int64_t>(blockIdx.x) * (blockDim.x >> 5) + (threadIdx.x >> 5);
  for (int bin = lane; bin < bins; bin += 32) {
    own[bin] = 0;
  }
  __syncwarp();
  if (chunk < chunks) {
    int64_t end = (chunk + 1) * kChunk < x.count ? (chunk + 1) * kChunk : x.count;
    for (int64_t pair = chunk * kChunk + lane; pair < end; pair += 32) {
      atomicAdd(own + bin_of(x.ids, pair, x.experts), 1);
    }
    __syncwarp();
    for (int bin = lane; bin < bins; bin += 32) {
      table[bin * chunks + chunk] = own[bin];
    }
  }
}

// The table becomes its exclusive sums, bin by bin and chunk by chunk; counts and offsets are read off them.
__global__ void __launch_bounds__(kScanThreads) scan_table(SortPairs x, int64_t chunks, int32_t* table) {
  __shared__ int32_t warp_totals[32];
  __shared__ int32_t block_total;
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int64_t length = (x.experts + 1) * chunks;
  int32_t before = 0;
  for (int64_t start = 0; start < length; start += kScanThreads) {
    int64_t i = start + threadIdx.x;
    int32_t value = i < length ? table[i] : 0;
    int32_t sum = warp_running_sum(value);
    if (lane == 31) {
      warp_totals[warp] = sum;
    }
    __syncthreads();
    if (warp == 0) {
      int32_t total = warp_totals[lane];
      int32_t running = warp_running_sum(total);
      warp_totals[lane] = running - total;
      if (lane == 31) {
        block_total = running;
      }
    }
    __syncthreads();
    if (i < length) {
      table[i] = before + warp_totals[warp] + sum - value;
    }
    before += block_total;
    __syncthreads();
  }
  // Written by other threads of this block: the barrier above has made it seen.
  for (int64_t id = threadIdx.x; id < x.experts; id += kScanThreads) {
    int32_t first = chunks == 0 ? 0 : table[id * chunks];
    int32_t last = chunks == 0 ? 0 : table[(id + 1) * chunks];
    x.offsets[id] = last;
    x.counts[id] = last - first;
  }
}

__global__ void place_pairs(SortPairs x, int64_t chunks, const int32_t* table) {
  extern __shared__ int32_t counters[];
  int bins = static_cast<int>(x.experts) + 1;
  int lane = threadIdx.x & 31;
  int32_t* next = counters + (threadIdx.x >> 5) * bins;
  int64_t chunk = static_cast<int64_t>(blockIdx.x) * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (chunk >= chunks) {
    return;
  }
  for (int bin = lane; bin < bins; bin += 32) {
    next[bin] = table[bin * chunks + chunk];
  }
  __syncwarp();
  int64_t end = (chunk + 1) * kChunk < x.count ? (chunk + 1) * kChunk : x.count;
  for (int64_t start = chunk * kChunk; start < end; start += 32) {
    int64_t pair = start + lane;
    bool present = pair < end;
    int bin = present ? bin_of(x.ids, pair, x.experts) : bins;  // `bins`: nobody's
    unsigned alike = __match_any_sync(0xffffffffu, bin);
    int before = __popc(alike & ((1u << lane) - 1u));
    int32_t place = present ? next[bin] + before : 0;
    __syncwarp();
    if (present && before == 0) {
      next[bin] += __popc(alike);
    }
    __syncwarp();
    if (present) {
      x.pairs[place] = static_cast<int32_t>(pair);
      x.places[pair] = bin == bins - 1 ? -1 : place;
    }
  }
}

// A block a token: each thread has one word of the row at a time and writes it to all of the token's places, so that the row is read once, however many
// experts chose it. (Gathered by places, a row is long out of the cache when the next expert asks for it.) `Word` is 16 bytes where everything is a multiple of it.
template <typename Word>
__global__ void __launch_bounds__(kThreads) spread(SpreadRows x, int64_t words) {
  auto row = [&](int64_t i) { return reinterpret_cast<Word*>(static_cast<char*>(x.to) + i * x.to_stride); };
  for (int64_t token = blockIdx.x; token < x.count; token += gridDim.x) {
    const Word* from = reinterpret_cast<const Word*>(static_cast<const char*>(x.from) + token * x.from_stride);
    const int32_t* places = x.places + token * x.slots;
    for (int64_t i = threadIdx.x; i < words; i += blockDim.x) {
      Word held = from[i];
      for (int64_t slot = 0; slot < x.slots; ++slot) {
        int32_t place = places[slot];
        if (place >= 0) {
          row(place)[i] = held;
        }
      }
    }
  }
  for (int64_t i = *x.taken + blockIdx.x; i < x.rows; i += gridDim.x) {
    for (int64_t word = threadIdx.x; word < words; word += blockDim.x) {
      row(i)[word] = Word{};
    }
  }
}

template <typename T, int V>
__device__ __forceinline__ void add_elements(const RawElements<T, V>& row, work_t<T>* sum) {
  work_t<T> values[V];
  row.widen(values);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    sum[i] += values[i];
  }
}

// A thread has V elements of one token: the loads of eight slots are under way at once, and add in order. blockIdx.x: the token.
template <typename T, int V>
__global__ void __launch_bounds__(kThreads) sum_slots(SumRows x) {
  constexpr int kFlight = 8;
  using W = work_t<T>;
  for (int64_t token = blockIdx.x; token < x.count; token += gridDim.x) {
    const int32_t* places = x.places + token * x.slots;
    for (int64_t i = static_cast<int64_t>(threadIdx.x) * V; i < x.width; i += static_cast<int64_t>(blockDim.x) * V) {
      W sum[V] = {};
      for (int64_t first = 0; first < x.slots; first += kFlight) {
        RawElements<T, V> row[kFlight];
        int32_t place[kFlight];
#pragma unroll
        for (int s = 0; s < kFlight; ++s) {
          place[s] = first + s < x.slots ? places[first + s] : -1;
        }
#pragma unroll
        for (int s = 0; s < kFlight; ++s) {
          if (place[s] >= 0) {
            row[s].load(static_cast<const T*>(x.from) + place[s] * x.from_stride + i);
          }
        }
#pragma unroll
        for (int s = 0; s < kFlight; ++s) {
          if (place[s] >= 0) {
            add_elements<T, V>(row[s], sum);
          }
        }
      }
      if (x.added != nullptr) {
        RawElements<T, V> row;
        row.load(static_cast<const T*>(x.added) + token * x.width + i);
        add_elements<T, V>(row, sum);
      }
      T* to = static_cast<T*>(x.to) + token * x.to_stride + i;
      if constexpr (V == 1) {
        *to = narrowed<T>::from(sum[0]);
      } else {
        store_vector(to, sum);
      }
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) pick(PickNumbers x) {
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < x.count; i += static_cast<int64_t>(gridDim.x) * kThreads) {
    T* to = reinterpret_cast<T*>(static_cast<char*>(x.to) + i / x.group * x.to_stride) + i % x.group;
    *to = x.places[i] < 0 ? T(0) : static_cast<const T*>(x.from)[x.places[i]];
  }
}

template <typename T>
bool whole_vectors(const SumRows& x) {
  constexpr int V = kVector<T>;
  return x.width % V == 0 && x.from_stride % V == 0 && x.to_stride % V == 0 && aligned(x.from, x.to, x.added);
}

unsigned threads_for(int64_t pieces) {
  int64_t warps = (pieces + 31) / 32;
  return static_cast<unsigned>(warps < 1 ? 32 : warps < kThreads / 32 ? warps * 32 : kThreads);
}

}  // namespace

int64_t sort_pairs_workspace(int64_t count, int64_t experts) { return (experts + 1) * chunks_of(count); }

void sort_pairs(const SortPairs& x, int32_t* workspace, void* on) {
  int64_t chunks = chunks_of(x.count);
  int warps = warps_of(x.experts);
  unsigned blocks = static_cast<unsigned>((chunks + warps - 1) / warps);
  size_t shared = static_cast<size_t>(warps) * static_cast<size_t>(x.experts + 1) * sizeof(int32_t);
  if (chunks > 0) {
    count_chunks<<<blocks, warps * 32, shared, stream(on)>>>(x, chunks, workspace);
    check_launch("sort: counts");
  }
  scan_table<<<1, kScanThreads, 0, stream(on)>>>(x, chunks, workspace);
  check_launch("sort: sums");
  if (chunks > 0) {
    place_pairs<<<blocks, warps * 32, shared, stream(on)>>>(x, chunks, workspace);
    check_launch("sort: places");
  }
}

void spread_rows(const SpreadRows& x, void* on) {
  if (x.rows == 0 || x.row_bytes == 0) {
    return;
  }
  unsigned blocks = grid(x.count > 0 ? x.count : x.rows, 1);
  if (x.row_bytes % 16 == 0 && x.from_stride % 16 == 0 && x.to_stride % 16 == 0 && aligned(x.from, x.to)) {
    spread<uint4><<<blocks, threads_for(x.row_bytes / 16), 0, stream(on)>>>(x, x.row_bytes / 16);
  } else {
    spread<unsigned short><<<blocks, threads_for(x.row_bytes / 2), 0, stream(on)>>>(x, x.row_bytes / 2);  // every floating-point type is a multiple of 2 bytes
  }
  check_launch("spread of rows");
}

void sum_rows(const SumRows& x, void* on) {
  if (x.count == 0 || x.width == 0) {
    return;
  }
  with_type(x.type, [&](auto t) {
    using T = decltype(t);
    if (whole_vectors<T>(x)) {
      sum_slots<T, kVector<T>><<<grid(x.count, 1), threads_for(x.width / kVector<T>), 0, stream(on)>>>(x);
    } else {
      sum_slots<T, 1><<<grid(x.count, 1), threads_for(x.width), 0, stream(on)>>>(x);
    }
  });
  check_launch("sum of rows");
}

void pick_numbers(const PickNumbers& x, void* on) {
  if (x.count == 0) {
    return;
  }
  unsigned blocks = grid(x.count, kThreads);
  if (x.type == Type::Float64) {
    pick<double><<<blocks, kThreads, 0, stream(on)>>>(x);
  } else {
    pick<float><<<blocks, kThreads, 0, stream(on)>>>(x);
  }
  check_launch("pick of numbers");
}

}  // namespace moe::cuda

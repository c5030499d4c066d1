// The router on a GPU: a warp a token, lanes over the experts, everything between logits and results in registers.
//
// A block takes kRouterBlock tokens of a segment and leaves the sums of its warps, added in their order; a second kernel adds the blocks. With
// T = 16,384, E = 64 and k = 8 in float32, logits in and results out are 7 MiB: the floor is 3 us, below the cost of the launch.
#include <climits>

#include "kernels/elements.cuh"
#include "kernels/router.h"

namespace moe::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr int kSumThreads = 1024;
constexpr int kMostExperts = 1024;

template <typename T>
__device__ __forceinline__ T lowest() {
  return -T(INFINITY);
}

// Lane l has the experts l, l + 32, ...
template <typename T, int N>
struct Row {
  T values[N];

  __device__ __forceinline__ void load(const T* from, int experts, T beyond) {
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      values[j] = lane + 32 * j < experts ? from[lane + 32 * j] : beyond;
    }
  }

  __device__ __forceinline__ T sum() const {
    T total = values[0];
#pragma unroll
    for (int j = 1; j < N; ++j) {
      total += values[j];
    }
    return warp_sum(total);
  }

  // The value of one expert, which every lane asks for.
  __device__ __forceinline__ T of(int expert) const {
    T found = values[0];
#pragma unroll
    for (int j = 1; j < N; ++j) {
      found = expert >> 5 == j ? values[j] : found;
    }
    return __shfl_sync(0xffffffffu, found, expert & 31);
  }
};

// scores becomes the softmax of logits, 0 beyond the experts; returns the logsumexp.
template <typename T, int N>
__device__ __forceinline__ T softmax(const Row<T, N>& logits, Row<T, N>& scores, int experts) {
  int lane = threadIdx.x & 31;
  T most = logits.values[0];
#pragma unroll
  for (int j = 1; j < N; ++j) {
    most = logits.values[j] > most ? logits.values[j] : most;
  }
  most = warp_max(most);
#pragma unroll
  for (int j = 0; j < N; ++j) {
    scores.values[j] = lane + 32 * j < experts ? exponential(logits.values[j] - most) : T(0);
  }
  T sum = scores.sum();
  T inverse = T(1) / sum;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    scores.values[j] *= inverse;
  }
  return most + logarithm(sum);
}

template <typename T, int N>
__device__ __forceinline__ void sigmoids(const Row<T, N>& logits, Row<T, N>& scores, int experts) {
  int lane = threadIdx.x & 31;
#pragma unroll
  for (int j = 0; j < N; ++j) {
    scores.values[j] = lane + 32 * j < experts ? T(1) / (T(1) + exponential(-logits.values[j])) : T(0);
  }
}

// Integers in the order of the numbers, -0 among them as 0.
__device__ __forceinline__ unsigned in_order(float x) {
  unsigned bits = __float_as_uint(x + 0.0f);
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

// The best expert that is not taken; of equal ones the lower. Taken ones have the id INT_MAX, and what is no number counts as the lowest.
template <typename T, int N>
__device__ __forceinline__ int best(const T (&values)[N], const int (&ids)[N]) {
  T value = values[0];
  int id = ids[0];
#pragma unroll
  for (int j = 1; j < N; ++j) {
    if (values[j] > value || (values[j] == value && ids[j] < id)) {
      value = values[j];
      id = ids[j];
    }
  }
  if constexpr (sizeof(T) == sizeof(unsigned)) {  // the device compares a warp's integers at once
    unsigned key = in_order(value);
    return __reduce_min_sync(0xffffffffu, key == __reduce_max_sync(0xffffffffu, key) ? id : INT_MAX);
  } else {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) {
      T other = __shfl_xor_sync(0xffffffffu, value, offset);
      int other_id = __shfl_xor_sync(0xffffffffu, id, offset);
      if (other > value || (other == value && other_id < id)) {
        value = other;
        id = other_id;
      }
    }
    return id;
  }
}

// shared: double [kWarps, E], then int32 [E].
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) forward_blocks(RouterForward x) {
  extern __shared__ double sums[];
  __shared__ double warp_squares[kWarps];
  int experts = static_cast<int>(x.experts);
  int32_t* counters = reinterpret_cast<int32_t*>(sums + kWarps * experts);
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  for (int e = threadIdx.x; e < experts; e += kThreads) {
    counters[e] = 0;
  }
  __syncthreads();
  int64_t block = blockIdx.x, segment = block / x.blocks_a_segment();
  int64_t first = block % x.blocks_a_segment() * kRouterBlock;
  int64_t last = first + kRouterBlock < x.tokens ? first + kRouterBlock : x.tokens;
  double shares[N] = {};
  double squares = 0;
  for (int64_t at = first + warp; at < last; at += kWarps) {
    int64_t token = segment * x.tokens + at;
    Row<T, N> logits, scores;
    logits.load(static_cast<const T*>(x.logits) + token * experts, experts, lowest<T>());
    T log_sum_exp = softmax(logits, scores, experts);
    squares += static_cast<double>(log_sum_exp) * log_sum_exp;
    T share = 1;
    if (x.sigmoid) {
      sigmoids(logits, scores, experts);
      share = T(1) / (scores.sum() + T(kRouterTiny));
    }
    T candidates[N];
    int ids[N];
#pragma unroll
    for (int j = 0; j < N; ++j) {
      int e = lane + 32 * j;
      shares[j] += static_cast<double>(scores.values[j] * share);
      T value = e < experts ? scores.values[j] + T(x.bias[e]) : lowest<T>();
      candidates[j] = value == value ? value : lowest<T>();
      ids[j] = e < experts ? e : INT_MAX;
    }
    T total = 0;
    int64_t* to = x.ids + token * x.slots;
    T* chosen = static_cast<T*>(x.chosen) + token * x.slots;
    for (int64_t slot = 0; slot < x.slots; ++slot) {
      int id = best<T, N>(candidates, ids);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        if (ids[j] == id) {
          candidates[j] = lowest<T>();
          ids[j] = INT_MAX;
        }
      }
      T score = scores.of(id);
      total += score;
      if (lane == 0) {
        to[slot] = id;
        chosen[slot] = score;
        atomicAdd(counters + id, 1);
      }
    }
    __syncwarp();
    T divisor = x.normalize ? total + T(kRouterTiny) : T(1);
    T* weights = static_cast<T*>(x.weights) + token * x.slots;
    for (int64_t slot = lane; slot < x.slots; slot += 32) {
      weights[slot] = chosen[slot] / divisor * T(x.scale);
    }
  }
#pragma unroll
  for (int j = 0; j < N; ++j) {
    if (lane + 32 * j < experts) {
      sums[warp * experts + lane + 32 * j] = shares[j];
    }
  }
  if (lane == 0) {
    warp_squares[warp] = squares;
  }
  __syncthreads();
  for (int e = threadIdx.x; e < experts; e += kThreads) {
    double sum = sums[e];
    for (int w = 1; w < kWarps; ++w) {
      sum += sums[w * experts + e];
    }
    x.block_sums[block * experts + e] = sum;
    x.block_counts[block * experts + e] = counters[e];
  }
  if (threadIdx.x == 0) {
    double sum = warp_squares[0];
    for (int w = 1; w < kWarps; ++w) {
      sum += warp_squares[w];
    }
    x.block_squares[block] = sum;
  }
}

// Block g adds the blocks of segment g: each of `parts` groups of threads its share of them in order, and then the shares in order. Block G adds the squares.
template <typename T>
__global__ void __launch_bounds__(kSumThreads) add_blocks(RouterForward x) {
  __shared__ double shares[kSumThreads];
  __shared__ int64_t counts[kSumThreads];
  if (blockIdx.x == x.segments) {
    double sum = 0;
    for (int64_t block = threadIdx.x; block < x.blocks(); block += kSumThreads) {
      sum += x.block_squares[block];
    }
    sum = block_sum(sum, shares);
    if (threadIdx.x == 0) {
      *static_cast<T*>(x.squares) = static_cast<T>(sum);
    }
    return;
  }
  int experts = static_cast<int>(x.experts);
  int parts = kSumThreads / experts;
  int part = threadIdx.x / experts, e = threadIdx.x % experts;
  int64_t blocks = x.blocks_a_segment(), each = (blocks + parts - 1) / parts;
  if (part < parts) {
    int64_t end = (part + 1) * each < blocks ? (part + 1) * each : blocks;
    double sum = 0;
    int64_t count = 0;
#pragma unroll 4
    for (int64_t block = part * each; block < end; ++block) {
      int64_t at = (blockIdx.x * blocks + block) * experts + e;
      sum += x.block_sums[at];
      count += x.block_counts[at];
    }
    shares[threadIdx.x] = sum;
    counts[threadIdx.x] = count;
  }
  __syncthreads();
  if (part == 0) {
    double sum = shares[e];
    int64_t count = counts[e];
    for (int p = 1; p < parts; ++p) {
      sum += shares[p * experts + e];
      count += counts[p * experts + e];
    }
    static_cast<T*>(x.sums)[blockIdx.x * experts + e] = static_cast<T>(sum);
    x.counts[blockIdx.x * experts + e] = count;
  }
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) backward_rows(RouterBackward x) {
  int experts = static_cast<int>(x.experts);
  int lane = threadIdx.x & 31;
  int64_t tokens = x.segments * x.tokens, step = static_cast<int64_t>(gridDim.x) * kWarps;
  T square_grad = x.square_grad == nullptr ? T(0) : *static_cast<const T*>(x.square_grad);
  for (int64_t token = static_cast<int64_t>(blockIdx.x) * kWarps + (threadIdx.x >> 5); token < tokens; token += step) {
    Row<T, N> logits, scores, gradients, result;
    logits.load(static_cast<const T*>(x.logits) + token * experts, experts, lowest<T>());
    T slope = softmax(logits, scores, experts) * 2 * square_grad;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      result.values[j] = slope * scores.values[j];
      gradients.values[j] = 0;
    }
    if (x.sigmoid) {
      sigmoids(logits, scores, experts);
    }
    if (x.sum_grads != nullptr) {
      gradients.load(static_cast<const T*>(x.sum_grads) + token / x.tokens * experts, experts, T(0));
      if (x.sigmoid) {
        T inverse = T(1) / (scores.sum() + T(kRouterTiny));
        Row<T, N> products;
#pragma unroll
        for (int j = 0; j < N; ++j) {
          products.values[j] = gradients.values[j] * scores.values[j];
        }
        T mean = products.sum() * inverse;
#pragma unroll
        for (int j = 0; j < N; ++j) {
          gradients.values[j] = (gradients.values[j] - mean) * inverse;
        }
      }
    }
    if (x.weight_grads != nullptr) {
      const int64_t* ids = x.ids + token * x.slots;
      const T* arriving = static_cast<const T*>(x.weight_grads) + token * x.slots;
      T total = T(kRouterTiny), product = 0;
      for (int64_t slot = 0; slot < x.slots; ++slot) {
        T score = scores.of(static_cast<int>(ids[slot]));
        total += score;
        product += arriving[slot] * score;
      }
      for (int64_t slot = 0; slot < x.slots; ++slot) {
        T gradient = x.normalize ? T(x.scale) / total * (arriving[slot] - product / total) : T(x.scale) * arriving[slot];
        int id = static_cast<int>(ids[slot]);
#pragma unroll
        for (int j = 0; j < N; ++j) {
          gradients.values[j] += id == lane + 32 * j ? gradient : T(0);
        }
      }
    }
    if (x.sigmoid) {
#pragma unroll
      for (int j = 0; j < N; ++j) {
        result.values[j] += gradients.values[j] * scores.values[j] * (T(1) - scores.values[j]);
      }
    } else {
      Row<T, N> products;
#pragma unroll
      for (int j = 0; j < N; ++j) {
        products.values[j] = gradients.values[j] * scores.values[j];
      }
      T mean = products.sum();
#pragma unroll
      for (int j = 0; j < N; ++j) {
        result.values[j] += scores.values[j] * (gradients.values[j] - mean);
      }
    }
    T* to = static_cast<T*>(x.logit_grads) + token * experts;
#pragma unroll
    for (int j = 0; j < N; ++j) {
      if (lane + 32 * j < experts) {
        to[lane + 32 * j] = result.values[j];
      }
    }
  }
}

template <int N>
struct Width {
  static constexpr int value = N;
};

// Calls act(T(), Width<N>()) with experts a lane.
template <typename Act>
void with_shape(const RouterShape& x, Act act) {
  if (x.experts > kMostExperts) {
    throw std::invalid_argument("the router's kernel takes at most " + std::to_string(kMostExperts) + " experts, not " + std::to_string(x.experts));
  }
  auto with_width = [&](auto t) {
    if (x.experts <= 32) return act(t, Width<1>());
    if (x.experts <= 64) return act(t, Width<2>());
    if (x.experts <= 128) return act(t, Width<4>());
    if (x.experts <= 256) return act(t, Width<8>());
    return act(t, Width<32>());
  };
  x.type == Type::Float64 ? with_width(0.0) : with_width(0.0f);
}

}  // namespace

void router_forward(const RouterForward& x, void* on) {
  with_shape(x, [&](auto t, auto width) {
    using T = decltype(t);
    if (x.blocks() > 0) {
      size_t shared = static_cast<size_t>(x.experts) * (kWarps * sizeof(double) + sizeof(int32_t));
      forward_blocks<T, decltype(width)::value><<<static_cast<unsigned>(x.blocks()), kThreads, shared, stream(on)>>>(x);
      check_launch("router forward");
    }
    add_blocks<T><<<static_cast<unsigned>(x.segments + 1), kSumThreads, 0, stream(on)>>>(x);
    check_launch("router sums");
  });
}

void router_backward(const RouterBackward& x, void* on) {
  int64_t tokens = x.segments * x.tokens;
  if (tokens == 0) {
    return;
  }
  with_shape(x, [&](auto t, auto width) {
    backward_rows<decltype(t), decltype(width)::value><<<grid(tokens, kWarps), kThreads, 0, stream(on)>>>(x);
    check_launch("router backward");
  });
}

}  // namespace moe::cuda

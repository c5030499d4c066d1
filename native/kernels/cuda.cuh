// What the CUDA forms have in common: bfloat16 by its bits, loads and stores of 16 bytes, sums within a warp and a block in a fixed order,
// and the check of a launch. No torch header and no library beyond the runtime.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernels/types.h"

namespace moe::cuda {

// Storage of a bfloat16: the upper half of a float.
struct bf16 {
  unsigned short bits;
};

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ double widened(double x) { return x; }
__device__ __forceinline__ float widened(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

// To nearest, ties to even; a NaN stays one.
__device__ __forceinline__ unsigned short bf16_bits(float x) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
}

// Two of them, `low` in the lower half.
__device__ __forceinline__ unsigned bf16_pair(float low, float high) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

// 1 / x, 2^-23 off at most; 0 from 2^126 on, infinite below 2^-126.
__device__ __forceinline__ float quick_reciprocal(float x) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  return inverse;
}

template <typename T>
struct narrowed {
  __device__ __forceinline__ static T from(T x) { return x; }
};
template <>
struct narrowed<bf16> {
  __device__ __forceinline__ static bf16 from(float x) { return bf16{bf16_bits(x)}; }
};

// The type that elements of T are worked in.
template <typename T>
using work_t = std::conditional_t<std::is_same_v<T, bf16>, float, T>;

// Elements of T in 16 bytes.
template <typename T>
constexpr int kVector = 16 / sizeof(T);

template <typename T>
__device__ __forceinline__ void widen_vector(const uint4& raw, work_t<T>* to) {
  const T* values = reinterpret_cast<const T*>(&raw);
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) {
    to[i] = widened(values[i]);
  }
}

// 16 bytes from an address that is a multiple of 16, widened.
template <typename T>
__device__ __forceinline__ void load_vector(const T* from, work_t<T>* to) {
  widen_vector<T>(*reinterpret_cast<const uint4*>(from), to);
}

template <typename T>
__device__ __forceinline__ uint4 narrow_vector(const work_t<T>* from) {
  if constexpr (std::is_same_v<T, bf16>) {
    return {bf16_pair(from[0], from[1]), bf16_pair(from[2], from[3]), bf16_pair(from[4], from[5]), bf16_pair(from[6], from[7])};
  } else {
    uint4 raw;
    T* values = reinterpret_cast<T*>(&raw);
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) {
      values[i] = from[i];
    }
    return raw;
  }
}

template <typename T>
__device__ __forceinline__ void store_vector(T* to, const work_t<T>* from) {
  *reinterpret_cast<uint4*>(to) = narrow_vector<T>(from);
}

// The same for bytes that a kernel touches once and nothing reads soon: they leave the cache first.
template <typename T>
__device__ __forceinline__ uint4 load_once(const T* from) {
  return __ldcs(reinterpret_cast<const uint4*>(from));
}

template <typename T>
__device__ __forceinline__ void store_once(T* to, const work_t<T>* from) {
  __stcs(reinterpret_cast<uint4*>(to), narrow_vector<T>(from));
}

// Every lane gets the sum of all 32, added as a butterfly: the same order on every run.
template <typename T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    x += __shfl_xor_sync(0xffffffffu, x, offset);
  }
  return x;
}

// Every lane gets the sum over the lanes up to itself.
__device__ __forceinline__ int warp_running_sum(int x) {
  int lane = threadIdx.x & 31;
#pragma unroll
  for (int offset = 1; offset < 32; offset <<= 1) {
    int other = __shfl_up_sync(0xffffffffu, x, offset);
    x += lane >= offset ? other : 0;
  }
  return x;
}

template <typename T>
__device__ __forceinline__ T warp_max(T x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) {
    T other = __shfl_xor_sync(0xffffffffu, x, offset);
    x = x > other ? x : other;
  }
  return x;
}

// Every thread gets the sum over the block (a multiple of 32 threads, at most 1024). `shared`: 32 elements, free again after the call.
template <typename T>
__device__ __forceinline__ T block_sum(T x, T* shared) {
  x = warp_sum(x);
  if ((threadIdx.x & 31) == 0) {
    shared[threadIdx.x >> 5] = x;
  }
  __syncthreads();
  int warps = blockDim.x >> 5;
  T sum = warp_sum(static_cast<int>(threadIdx.x & 31) < warps ? shared[threadIdx.x & 31] : T(0));
  __syncthreads();
  return sum;
}

template <typename T>
__device__ __forceinline__ T block_max(T x, T* shared) {
  x = warp_max(x);
  if ((threadIdx.x & 31) == 0) {
    shared[threadIdx.x >> 5] = x;
  }
  __syncthreads();
  int warps = blockDim.x >> 5;
  T most = warp_max(static_cast<int>(threadIdx.x & 31) < warps ? shared[threadIdx.x & 31] : shared[0]);
  __syncthreads();
  return most;
}

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    (void)cudaGetLastError();  // told here: or the next check of a launch would find it
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

// After every launch: a bad configuration shows here, and as an exception.
inline void check_launch(const char* kernel) { check(cudaGetLastError(), kernel); }

// Blocks for `items` of which a block has `each` at once. A grid can have some 2^31; kernels go over what is beyond these in strides.
inline unsigned grid(int64_t items, int64_t each) {
  constexpr int64_t kMost = 1 << 30;
  int64_t blocks = (items + each - 1) / each;
  return static_cast<unsigned>(blocks < kMost ? blocks : kMost);
}

inline cudaStream_t stream(void* handle) { return static_cast<cudaStream_t>(handle); }

// Calls act(T()) with the element type of a floating-point `type`; T is bf16, float or double.
template <typename Act>
inline void with_type(Type type, Act act) {
  switch (type) {
    case Type::BFloat16:
      return act(bf16{});
    case Type::Float32:
      return act(0.0f);
    case Type::Float64:
      return act(0.0);
    default:
      throw std::invalid_argument("element type " + std::to_string(static_cast<int>(type)) + " is not worked by this kernel");
  }
}

}  // namespace moe::cuda

// Some consecutive elements of a row for one thread: as many 16-byte accesses as they take, or one element where a row doesn't divide by them.
#pragma once

#include "kernels/cuda.cuh"

namespace moe::cuda {

template <typename T, int kCount>
__device__ __forceinline__ void load_elements(const T* from, work_t<T>* to) {
  if constexpr (kCount == 1) {
    to[0] = widened(from[0]);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; i += kVector<T>) {
      load_vector(from + i, to + i);
    }
  }
}

template <typename T, int kCount>
__device__ __forceinline__ void store_elements(T* to, const work_t<T>* from) {
  if constexpr (kCount == 1) {
    to[0] = narrowed<T>::from(from[0]);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; i += kVector<T>) {
      store_vector(to + i, from + i);
    }
  }
}

// Elements as they come from memory: their loads can be under way while others are worked, in half of the registers that bfloat16 widened takes.
template <typename T, int kCount>
struct RawElements {
  static constexpr int kPieces = kCount == 1 ? 1 : kCount / kVector<T>;
  std::conditional_t<kCount == 1, T, uint4> pieces[kPieces];

  __device__ __forceinline__ void load(const T* from) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      pieces[i] = reinterpret_cast<const std::conditional_t<kCount == 1, T, uint4>*>(from)[i];
    }
  }
  __device__ __forceinline__ void widen(work_t<T>* to) const {
    if constexpr (kCount == 1) {
      to[0] = widened(pieces[0]);
    } else {
#pragma unroll
      for (int i = 0; i < kPieces; ++i) {
        widen_vector<T>(pieces[i], to + i * kVector<T>);
      }
    }
  }
};

// Whether accesses of 16 bytes may start at these addresses; a null one doesn't matter.
template <typename... Pointers>
inline bool aligned(Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }
__device__ __forceinline__ float square_root(float x) { return sqrtf(x); }
__device__ __forceinline__ double square_root(double x) { return sqrt(x); }

}  // namespace moe::cuda

// What a rule does to bfloat16 numbers on a GPU: the same bits in every kernel that applies it.
#pragma once

#include "kernels/cuda.cuh"
#include "kernels/optimizer_rules.h"

namespace moe::cuda {

// A float32 whose root and quotient are the device's quick ones, 2^-21 off at most, of which rounding to bfloat16 keeps 2^-9; numbers below 2^-126 count as zero
// there. Products that are added to something are not rounded before. Each operation is one instruction by its name, so that no compiler's choice changes bits.
struct Quick {
  float value;
};
struct QuickProduct {
  float left, right;
  __device__ __forceinline__ operator Quick() const { return {__fmul_rn(left, right)}; }
};
__device__ __forceinline__ QuickProduct operator*(Quick x, Quick y) { return {x.value, y.value}; }
__device__ __forceinline__ QuickProduct operator*(QuickProduct x, Quick y) { return {__fmul_rn(x.left, x.right), y.value}; }
__device__ __forceinline__ Quick operator+(Quick x, Quick y) { return {__fadd_rn(x.value, y.value)}; }
__device__ __forceinline__ Quick operator+(Quick x, QuickProduct y) { return {__fmaf_rn(y.left, y.right, x.value)}; }
__device__ __forceinline__ Quick operator+(QuickProduct x, Quick y) { return {__fmaf_rn(x.left, x.right, y.value)}; }
__device__ __forceinline__ Quick operator+(QuickProduct x, QuickProduct y) { return {__fmaf_rn(x.left, x.right, __fmul_rn(y.left, y.right))}; }
__device__ __forceinline__ Quick operator-(Quick x, Quick y) { return {__fsub_rn(x.value, y.value)}; }
__device__ __forceinline__ Quick operator/(Quick x, Quick y) {
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(y.value));
  return {__fmul_rn(x.value, inverse)};
}
__device__ __forceinline__ bool operator>=(Quick x, Quick y) { return x.value >= y.value; }
__device__ __forceinline__ Quick square_root(Quick x) {
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x.value));
  return {root};
}

// One step of rule R on two elements of each slot, as they stand beside one another in memory.
template <class R>
__device__ __forceinline__ void step_pair(unsigned (&slots)[R::kSlots], const Quick (&c)[R::kCoefficients]) {
  Quick low[R::kSlots], high[R::kSlots];
#pragma unroll
  for (int slot = 0; slot < R::kSlots; ++slot) {
    low[slot].value = __uint_as_float(slots[slot] << 16);
    high[slot].value = __uint_as_float(slots[slot] & 0xffff0000u);
  }
  R::apply(low, c);
  R::apply(high, c);
#pragma unroll
  for (int slot = 0; slot < R::kSlots; ++slot) {
    if ((R::kWritten >> slot & 1) != 0) {
      slots[slot] = bf16_pair(low[slot].value, high[slot].value);
    }
  }
}

}  // namespace moe::cuda

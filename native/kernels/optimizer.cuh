// What a rule does to bfloat16 numbers on a GPU: the same bits in every kernel that applies it.
#pragma once

#include "kernels/cuda.cuh"
#include "kernels/optimizer_rules.h"

namespace moe::cuda {

// A float32 whose root and quotient are the device's quick ones, 2^-21 off at most, of which rounding to bfloat16 keeps 2^-9; numbers below 2^-126 count as zero
// there. A product that is added to something is not rounded before (of two products the first is not). Each operation is one instruction by its name, so that no compiler's choice changes bits.
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
__device__ __forceinline__ Quick inverse(Quick x) { return {quick_reciprocal(x.value)}; }
__device__ __forceinline__ Quick operator/(Quick x, Quick y) { return {__fmul_rn(x.value, inverse(y).value)}; }
__device__ __forceinline__ bool operator>=(Quick x, Quick y) { return x.value >= y.value; }
__device__ __forceinline__ Quick square_root(Quick x) {
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x.value));
  return {root};
}

// A rule on bfloat16 numbers, with the coefficients of a tensor.
template <class R>
struct ShortRule {
  Quick c[R::kCoefficients];

  // number: of a coefficient.
  template <class Number>
  __device__ __forceinline__ explicit ShortRule(Number number) {
#pragma unroll
    for (int i = 0; i < R::kCoefficients; ++i) {
      c[i].value = number(i);
    }
  }
  __device__ __forceinline__ void apply(Quick* x) const { R::apply(x, c); }
};

template <class R>
constexpr bool is_adam = std::is_same_v<R, rules::Adam<false>> || std::is_same_v<R, rules::Adam<true>>;

// Adam's with nine operations, a root and a quotient in place of thirteen: where it runs beside matrix products a device's power is the limit, and each counts. The
// gradient is scaled once for both means. No coupled decay: that one goes by the rule as it is written.
template <bool Amsgrad>
struct ShortAdam {
  Quick kept, taken, square_kept, square_taken, decay, root, epsilon, step;

  template <class Number>
  __device__ __forceinline__ explicit ShortAdam(Number number) {
    kept.value = number(3);
    taken.value = __fmul_rn(number(0), number(4));
    square_kept.value = number(5);
    square_taken.value = __fdiv_rn(number(6), __fmul_rn(number(4), number(4)));
    decay.value = number(2);
    root.value = number(7);
    epsilon.value = fmaxf(number(8), 1.17549435e-38f);  // less would count as zero, and a quotient of zeros be none
    step.value = number(9);
  }
  __device__ __forceinline__ void apply(Quick* x) const {
    Quick gradient = x[1] * taken;
    x[2] = x[2] * kept + gradient;
    Quick squared = gradient * gradient;
    x[3] = squared * square_taken + x[3] * square_kept;
    Quick square = x[3];
    if constexpr (Amsgrad) {
      square = x[4] = rules::larger(x[4], square);
    }
    Quick along = x[2] * step;
    x[0] = along * inverse(square_root(square) * root + epsilon) + x[0] * decay;
  }
};

// One step of a rule on two elements of each slot, as they stand beside one another in memory.
template <class R, class Applied>
__device__ __forceinline__ void step_pair(unsigned (&slots)[R::kSlots], const Applied& rule) {
  Quick low[R::kSlots], high[R::kSlots];
#pragma unroll
  for (int slot = 0; slot < R::kSlots; ++slot) {
    low[slot].value = __uint_as_float(slots[slot] << 16);
    high[slot].value = __uint_as_float(slots[slot] & 0xffff0000u);
  }
  rule.apply(low);
  rule.apply(high);
#pragma unroll
  for (int slot = 0; slot < R::kSlots; ++slot) {
    if ((R::kWritten >> slot & 1) != 0) {
      slots[slot] = bf16_pair(low[slot].value, high[slot].value);
    }
  }
}

}  // namespace moe::cuda

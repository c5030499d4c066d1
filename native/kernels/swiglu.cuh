// The gated activation of one element on a GPU and its gradients, in one form for all kernels that make them: the same bits.
#pragma once

#include "kernels/cuda.cuh"

namespace moe::cuda {

// What is below 2^-126 counts as 0 here, which 1 is added to, and in the reciprocal.
__device__ __forceinline__ float negative_exp(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.44269504f));
  return power;
}
__device__ __forceinline__ double negative_exp(double x) { return exp(-x); }

__device__ __forceinline__ float reciprocal(float x) { return quick_reciprocal(x); }
__device__ __forceinline__ double reciprocal(double x) { return 1.0 / x; }

// Where gates are large and negative e^-x is infinite and the sigmoid 0.
template <typename W>
__device__ __forceinline__ W sigmoid(W x) {
  return reciprocal(W(1) + negative_exp(x));
}

template <typename W>
__device__ __forceinline__ W gated(W gate, W up, W weight) {
  return gate * sigmoid(gate) * up * weight;
}

template <typename W>
struct Gradients {
  W activation;
  W gate;
  W up;
  W product;  // of the row's dot
};

template <typename W>
__device__ __forceinline__ Gradients<W> gradients(W gate, W up, W arriving, W weight) {
  W s = sigmoid(gate);
  W silu = gate * s;
  W plain = silu * up;
  W weighted = arriving * weight;
  return {plain * weight, weighted * up * (s + silu * (W(1) - s)), weighted * silu, arriving * plain};
}

}  // namespace moe::cuda

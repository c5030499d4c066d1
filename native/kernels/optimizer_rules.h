// What an optimizer does to one element, written once for every target: x[] holds the element of each slot (value, gradient, state, ...),
// c[] the coefficients of its tensor. Whatever depends on the step alone (bias corrections, decay, schedules) is worked out in double
// precision by the managed side and arrives as a coefficient, so a rule is a few multiplications and at most one root and one division.
#pragma once

#include "kernels/optimizer.h"

// The CUDA form compiles the same rules for the device.
#ifdef __CUDACC__
#define MOE_RULE __host__ __device__ static inline
#else
#define MOE_RULE static inline
#endif

namespace moe::rules {
namespace {  // each instruction set has its own: the linker must not take one of them for all

#ifdef __CUDA_ARCH__
__device__ inline double square_root(double x) { return sqrt(x); }
__device__ inline float square_root(float x) { return sqrtf(x); }
#else
MOE_RULE double square_root(double x) { return __builtin_sqrt(x); }
MOE_RULE float square_root(float x) { return __builtin_sqrtf(x); }
#endif

// A NaN of the new value stays.
template <typename T>
MOE_RULE T larger(T kept, T value) {
  return kept >= value ? kept : value;
}

// Slots: value, gradient, mean, mean_square [, largest mean_square].
// Coefficients: gradient scale, coupled decay, decay factor, beta1, 1 - beta1, beta2, 1 - beta2, root scale, epsilon, -step.
template <bool Amsgrad>
struct Adam {
  static constexpr int kSlots = Amsgrad ? 5 : 4;
  static constexpr int kCoefficients = 10;
  static constexpr int kCoupledDecay = 1;  // among them
  static constexpr unsigned kWritten = Amsgrad ? 0b11101 : 0b01101;

  template <typename T>
  MOE_RULE void apply(T* x, const T* c) {
    T gradient = x[1] * c[0] + x[0] * c[1];
    T value = x[0] * c[2];
    x[2] = x[2] * c[3] + gradient * c[4];
    x[3] = x[3] * c[5] + gradient * gradient * c[6];
    T square = x[3];
    if constexpr (Amsgrad) {
      square = x[4] = larger(x[4], square);
    }
    x[0] = value + c[9] * x[2] / (square_root(square) * c[7] + c[8]);
  }
};

// Slots: value, term. Coefficients: value scale, term scale.
struct ScaledSum {
  static constexpr int kSlots = 2;
  static constexpr int kCoefficients = 2;
  static constexpr unsigned kWritten = 0b01;

  template <typename T>
  MOE_RULE void apply(T* x, const T* c) {
    x[0] = x[0] * c[0] + x[1] * c[1];
  }
};

// Slots: value, gradient, running gradient.
// Coefficients: gradient scale, coupled decay, decay factor, momentum, share of a new gradient, -step by the gradient, -step by the running one.
struct Momentum {
  static constexpr int kSlots = 3;
  static constexpr int kCoefficients = 7;
  static constexpr unsigned kWritten = 0b101;

  template <typename T>
  MOE_RULE void apply(T* x, const T* c) {
    T gradient = x[1] * c[0] + x[0] * c[1];
    x[2] = x[2] * c[3] + gradient * c[4];
    x[0] = x[0] * c[2] + (gradient * c[5] + x[2] * c[6]);
  }
};

// Slots: value, gradient, mean, variance [, largest variance].
// Coefficients: coupled decay, decay factor, beta1, 1 - beta1, beta2, 1 - beta2, added to the variance, root scale, epsilon, -step.
template <bool Amsgrad>
struct AdaBelief {
  static constexpr int kSlots = Amsgrad ? 5 : 4;
  static constexpr int kCoefficients = 10;
  static constexpr unsigned kWritten = Amsgrad ? 0b11101 : 0b01101;

  template <typename T>
  MOE_RULE void apply(T* x, const T* c) {
    T gradient = x[1] + x[0] * c[0];
    T value = x[0] * c[1];
    x[2] = x[2] * c[2] + gradient * c[3];
    T surprise = gradient - x[2];
    x[3] = x[3] * c[4] + surprise * surprise * c[5] + c[6];
    T variance = x[3];
    if constexpr (Amsgrad) {
      variance = x[4] = larger(x[4], variance);
    }
    x[0] = value + c[9] * x[2] / (square_root(variance) * c[7] + c[8]);
  }
};

// The direction takes the gradient's place; the step along it needs norms of both first.
// Slots: value, gradient, mean, mean square.
// Coefficients: gradient scale, coupled decay, beta1, share of a new gradient, beta2, 1 - beta2, mean scale, root scale, epsilon, decay in the direction.
struct LambDirection {
  static constexpr int kSlots = 4;
  static constexpr int kCoefficients = 10;
  static constexpr unsigned kWritten = 0b1110;

  template <typename T>
  MOE_RULE void apply(T* x, const T* c) {
    T gradient = x[1] * c[0] + x[0] * c[1];
    x[2] = x[2] * c[2] + gradient * c[3];
    x[3] = x[3] * c[4] + gradient * gradient * c[5];
    x[1] = x[2] * c[6] / (square_root(x[3]) * c[7] + c[8]) + x[0] * c[9];
  }
};

// Slots: momentum, gradient, direction. Coefficients: momentum kept, gradient taken in, the direction's share of momentum and of gradient.
struct MuonMomentum {
  static constexpr int kSlots = 3;
  static constexpr int kCoefficients = 4;
  static constexpr unsigned kWritten = 0b101;

  template <typename T>
  MOE_RULE void apply(T* x, const T* c) {
    x[0] = x[0] * c[0] + x[1] * c[1];
    x[2] = x[0] * c[2] + x[1] * c[3];
  }
};

// Calls `act` with the rule's struct; with none for a number that no rule has.
template <typename Act>
inline void with(Rule rule, Act act) {
  switch (rule) {
    case Rule::Adam:
      return act(Adam<false>());
    case Rule::AdamAmsgrad:
      return act(Adam<true>());
    case Rule::ScaledSum:
      return act(ScaledSum());
    case Rule::Momentum:
      return act(Momentum());
    case Rule::AdaBelief:
      return act(AdaBelief<false>());
    case Rule::AdaBeliefAmsgrad:
      return act(AdaBelief<true>());
    case Rule::LambDirection:
      return act(LambDirection());
    case Rule::MuonMomentum:
      return act(MuonMomentum());
  }
}

}  // namespace
}  // namespace moe::rules

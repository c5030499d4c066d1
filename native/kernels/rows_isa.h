// For the files that CMake compiles once for each instruction set, and for those alone: elements of each type by their work type, exp, and
// sums in sixteen lanes. Everything is of the namespace MOE_ISA, so that no form is the linker's choice for another processor.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {
namespace MOE_ISA {
namespace {

// Storage of an element type, and the type that it is worked in.
struct Single {
  using Stored = float;
  using Work = float;
  static inline float load(const float* from) { return *from; }
  static inline void store(float* to, float x) { *to = x; }
};

struct Double {
  using Stored = double;
  using Work = double;
  static inline double load(const double* from) { return *from; }
  static inline void store(double* to, double x) { *to = x; }
};

struct Brain {
  using Stored = uint16_t;
  using Work = float;
  static inline float load(const uint16_t* from) {
    uint32_t bits = static_cast<uint32_t>(*from) << 16;
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
  }
  // To nearest, ties to even; a NaN stays one.
  static inline void store(uint16_t* to, float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    *to = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
  }
};

// Calls act(E()) with the element kind of a floating-point type, which the caller has checked.
template <class Act>
inline void with_elements(Type type, Act act) {
  switch (type) {
    case Type::Float32:
      return act(Single());
    case Type::Float64:
      return act(Double());
    default:
      return act(Brain());
  }
}

// e^x to 1 ulp from -86 to 88; 0 below -87, infinite from 88.73 on. x = n ln 2 + r, and a polynomial of degree 6 for r (Cephes' expf).
inline float exponential(float x) {
  float held = x < -87.3365f ? -87.3365f : x;
  held = held > 88.7228f ? 88.7228f : held;
  float shifted = held * 1.44269504f + 12582912.0f;  // the integer stands in the low bits
  float n = shifted - 12582912.0f;
  float r = held - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  int32_t bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  int32_t power = (bits - 0x4b400000 + 126) << 23;  // of n - 1: that of the largest n would be infinite
  float half;
  __builtin_memcpy(&half, &power, sizeof half);
  return x > 88.7228f ? __builtin_inff() : p * half * 2.0f;
}

inline double exponential(double x) { return __builtin_exp(x); }

inline float logarithm(float x) { return __builtin_logf(x); }
inline double logarithm(double x) { return __builtin_log(x); }

template <typename T>
inline T sigmoid(T x) {
  return T(1) / (T(1) + exponential(-x));
}

constexpr int kLanes = 16;

// Sixteen sums side by side, joined in one order: the same bits on every instruction set.
template <typename T>
struct LaneSums {
  T lanes[kLanes] = {};

  inline void add(const T* values, int64_t count) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) {
        lanes[lane] += values[i + lane];
      }
    }
    for (int lane = 0; i < count; ++i, ++lane) {
      lanes[lane] += values[i];
    }
  }

  inline T total() const {
    T sums[kLanes / 2];
    for (int lane = 0; lane < 8; ++lane) sums[lane] = lanes[lane] + lanes[lane + 8];
    for (int lane = 0; lane < 4; ++lane) sums[lane] += sums[lane + 4];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
  }
};

}  // namespace
}  // namespace MOE_ISA
}  // namespace moe

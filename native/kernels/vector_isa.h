// Wide registers by name, for loops that must keep many of them at once; as rows_isa.h, for the files that are compiled once for each instruction set.
#pragma once

#include "kernels/rows_isa.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace moe {
namespace MOE_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

// Steps of the depth in a round of add_products' loop. To count a round and to compare it with the last are instructions beside its products, and a core that runs two
// threads begins only half as many for each. With registers of 64 bytes tiles are twice as tall, so that a step has enough products by itself.
constexpr int kDepthSteps = kRegisterBytes == 64 ? 1 : 4;

// For what tiles are made of: a call would have their sums put away and fetched again.
#define MOE_INLINE inline __attribute__((always_inline))

// Asks for `rows` rows of `bytes` bytes, to be read or, where kWrite is 1, written soon. Inlined, since GCC leaves out calls of functions that do nothing else.
template <int kWrite>
MOE_INLINE void fetch(const void* from, int64_t rows, int64_t step, int64_t bytes) {
  constexpr int64_t kLine = 64;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t at = 0; at < bytes; at += kLine) __builtin_prefetch(static_cast<const char*>(from) + i * step + at, kWrite);
  }
}

template <typename T>
struct Wide;
template <>
struct Wide<float> {
  typedef float Vector __attribute__((vector_size(kRegisterBytes)));
  typedef int32_t Integers __attribute__((vector_size(kRegisterBytes)));
  using Integer = int32_t;
};
template <>
struct Wide<double> {
  typedef double Vector __attribute__((vector_size(kRegisterBytes)));
  typedef int64_t Integers __attribute__((vector_size(kRegisterBytes)));
  using Integer = int64_t;
};

template <typename T>
using Vector = typename Wide<T>::Vector;
template <typename T>
using Integers = typename Wide<T>::Integers;

// Elements of T in a register.
template <typename T>
constexpr int kWide = kRegisterBytes / sizeof(T);

template <typename T>
inline Vector<T> load(const T* from) {
  Vector<T> x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

template <typename T>
inline void store(T* to, Vector<T> x) {
  __builtin_memcpy(to, &x, sizeof x);
}

// A register of elements by their work type, from and to where they are stored side by side.
template <class E>
inline Vector<typename E::Work> load_wide(const typename E::Stored* from) {
  if constexpr (sizeof(typename E::Stored) == sizeof(typename E::Work)) {
    return load(from);
  } else {
    typedef uint16_t Halves __attribute__((vector_size(kRegisterBytes / 2)));
    Halves halves;
    __builtin_memcpy(&halves, from, sizeof halves);
    return (Vector<float>)(__builtin_convertvector(halves, Integers<float>) << 16);
  }
}

template <class E>
inline void store_wide(typename E::Stored* to, Vector<typename E::Work> x) {
  if constexpr (sizeof(typename E::Stored) == sizeof(typename E::Work)) {
    store(to, x);
  } else {  // as Brain::store
    typedef uint16_t Halves __attribute__((vector_size(kRegisterBytes / 2)));
    typedef uint32_t Bits __attribute__((vector_size(kRegisterBytes)));
    auto bits = (Bits)x, top = bits >> 16;
    auto rounded = (bits + 0x7fff + (top & 1)) >> 16;
    Halves halves = __builtin_convertvector((bits & 0x7fffffff) > 0x7f800000 ? top | 0x40 : rounded, Halves);
    __builtin_memcpy(to, &halves, sizeof halves);
  }
}

template <typename T>
inline Vector<T> larger(Vector<T> a, Vector<T> b) {
  return a > b ? a : b;
}

// 0, 1, 2, ...
template <typename T>
inline Integers<T> places() {
  Integers<T> x;
  for (int i = 0; i < kWide<T>; ++i) {
    x[i] = i;
  }
  return x;
}

// The larger of a number and `least`; a NaN stays one. By the forms with a mask, since GCC 12 warns of its own header at the others (its bug 105593).
MOE_INLINE Vector<float> at_least(float least, Vector<float> x) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_maskz_max_ps(0xffff, _mm512_set1_ps(least), (__m512)x);
#elif defined(__AVX2__)
  return (Vector<float>)_mm256_max_ps(_mm256_set1_ps(least), (__m256)x);
#else
  Vector<float> all = Vector<float>{} + least;
  return x < all ? all : x;
#endif
}

MOE_INLINE Vector<float> at_most(float most, Vector<float> x) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_maskz_min_ps(0xffff, _mm512_set1_ps(most), (__m512)x);
#elif defined(__AVX2__)
  return (Vector<float>)_mm256_min_ps(_mm256_set1_ps(most), (__m256)x);
#else
  Vector<float> all = Vector<float>{} + most;
  return x > all ? all : x;
#endif
}

// e^x to 1 ulp (1.3 without fused products and sums) from -87 to 88, and 0 from there to -88: 2^n e^r with x = n ln 2 + r, and for e^r the polynomial of degree 6 whose
// largest relative error is the least.
MOE_INLINE Vector<float> exponential_in_range(Vector<float> x) {
  Vector<float> shifted = x * 1.44269504f + 12582912.0f;  // n stands in the low bits
  Vector<float> n = shifted - 12582912.0f;
  Vector<float> r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Vector<float> p = r * 1.384365139e-3f + 8.374156430e-3f;
  p = p * r + 4.166800156e-2f;
  p = p * r + 1.666643173e-1f;
  p = p * r + 4.999999404e-1f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  Integers<float> power = ((Integers<float>)shifted - 0x4b400000 + 127) << 23;
  return p * (Vector<float>)power;
}

// The same, and 0 below -87. A NaN stays one.
MOE_INLINE Vector<float> wide_exponential(Vector<float> x) {
  Vector<float> none = {};
  Vector<float> least = none - 87.0f;
  return x < least ? none : exponential_in_range(at_least(-87.0f, x));
}

inline Vector<double> wide_exponential(Vector<double> x) {
  for (int i = 0; i < kWide<double>; ++i) {
    x[i] = __builtin_exp(x[i]);
  }
  return x;
}

// A square of as many rows as a register has elements, turned on its diagonal: in each of log2 stages, row i and the row half the
// square below it are dealt out alternately to rows 2i and 2i + 1.
template <typename T>
inline void transpose_square(Vector<T>* rows) {
  constexpr int kSize = kWide<T>;
  Integers<T> low, high;
  for (int i = 0; i < kSize; ++i) {
    low[i] = i / 2 + i % 2 * kSize;
    high[i] = low[i] + kSize / 2;
  }
#pragma GCC unroll 4
  for (int stage = 1; stage < kSize; stage *= 2) {
    Vector<T> dealt[kSize];
#pragma GCC unroll 16
    for (int i = 0; i < kSize / 2; ++i) {
      dealt[2 * i] = __builtin_shuffle(rows[i], rows[i + kSize / 2], low);
      dealt[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + kSize / 2], high);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kSize; ++i) {
      rows[i] = dealt[i];
    }
  }
}

// from [rows, columns] -> to [columns, rows] in the work type; both lengths multiples of kWide.
template <class E>
inline void transpose_elements(const typename E::Stored* from, int64_t from_step, typename E::Work* to, int64_t to_step, int64_t rows, int64_t columns) {
  using T = typename E::Work;
  constexpr int kSize = kWide<T>;
  for (int64_t row = 0; row < rows; row += kSize) {
    for (int64_t column = 0; column < columns; column += kSize) {
      Vector<T> square[kSize];
#pragma GCC unroll 16
      for (int i = 0; i < kSize; ++i) {
        square[i] = load_wide<E>(from + (row + i) * from_step + column);
      }
      transpose_square<T>(square);
#pragma GCC unroll 16
      for (int i = 0; i < kSize; ++i) {
        store(to + (column + i) * to_step + row, square[i]);
      }
    }
  }
}

inline void transpose(const float* from, int64_t from_step, float* to, int64_t to_step, int64_t rows, int64_t columns) {
  transpose_elements<Single>(from, from_step, to, to_step, rows, columns);
}
inline void transpose(const double* from, int64_t from_step, double* to, int64_t to_step, int64_t rows, int64_t columns) {
  transpose_elements<Double>(from, from_step, to, to_step, rows, columns);
}

// sums[i] += the products of a's row i with b's columns: a's element (i, k) at a[i * a_row + k * a_step], b's row k at b + k * b_step.
template <typename T, int kRows, int kColumns>
MOE_INLINE void add_products(const T* a, int64_t a_row, int64_t a_step, const T* b, int64_t b_step, int64_t depth, Vector<T> (&sums)[kRows][kColumns]) {
#pragma GCC unroll kDepthSteps
  for (int64_t k = 0; k < depth; ++k) {
    Vector<T> columns[kColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      columns[j] = load(b + k * b_step + j * kWide<T>);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      T x = a[i * a_row + k * a_step];
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) {
        sums[i][j] += x * columns[j];
      }
    }
  }
}

}  // namespace
}  // namespace MOE_ISA
}  // namespace moe

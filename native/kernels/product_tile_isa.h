// Products by tiles: B is packed into strips of columns a few registers wide, and tiles of a few rows of C stand in registers while the depth passes by. A is read
// where it stands if its numbers can be, and packed otherwise. Everything counts in units: a number, or two of bfloat16 that are multiplied at once.
#pragma once

#include "kernels/product.h"
#include "kernels/vector_isa.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace moe {
namespace MOE_ISA {
namespace {

// A tile's rows and registers a row, and the steps of the depth in a round of its loop. AVX-512 has 32 registers, and its products read a number of A from memory as they
// multiply: 8 x 2 sums. With 16 registers a number has to be spread over one of them before it is multiplied, and twelve sums leave four for that: as 3 x 4 they need the
// fewest such instructions (three a step), and three addresses of rows still stand in registers. Every instruction that is no product counts where a core runs two
// threads, since it begins only half as many for each.
constexpr int kTileRows = kRegisterBytes == 64 ? 8 : 3;
constexpr int kTileColumns = kRegisterBytes == 64 ? 2 : 4;
constexpr int kTileSteps = kRegisterBytes == 64 ? 1 : 2;
constexpr int kNarrowRows = kRegisterBytes == 64 ? 8 : 6;  // of a tile of half as many registers or fewer: it wants as many sums under way

// How elements are multiplied: Unit is what stands in packed memory, kDeep elements of the depth in each, `step` apart; `line` are units side by side.
template <class E>
struct Factor {
  using Unit = typename E::Work;
  using Sums = Vector<Unit>;
  static constexpr int kDeep = 1;
  static constexpr bool kAsStored = sizeof(typename E::Stored) == sizeof(Unit);

  static inline Unit unit(const typename E::Stored* from, int64_t, bool) { return E::load(from); }
  static inline Sums line(const typename E::Stored* from, int64_t) { return load_wide<E>(from); }
  static inline void multiply_add(Sums& sum, Unit x, Vector<Unit> y) { sum += x * y; }
};

#ifdef __AVX512BF16__
template <>
struct Factor<Brain> {
  using Unit = float;  // by its bits: two elements
  using Sums = Vector<float>;
  static constexpr int kDeep = 2;
  static constexpr bool kAsStored = true;

  static inline Unit unit(const uint16_t* from, int64_t step, bool whole) {
    uint32_t bits = from[0] | static_cast<uint32_t>(whole ? from[step] : 0) << 16;
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
  }
  static inline Vector<float> line(const uint16_t* from, int64_t step) {
    return (Vector<float>)((Integers<float>)load_wide<Brain>(from + step) | ((Integers<float>)load_wide<Brain>(from) >> 16 & 0xffff));
  }
  static inline void multiply_add(Sums& sum, Unit x, Vector<float> y) {
    sum = (Sums)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_ps(x), (__m512bh)y);
  }
};
#endif

template <class E>
using Unit = typename Factor<E>::Unit;
template <class E>
constexpr int64_t kStripColumns = kTileColumns * kWide<Unit<E>>;

// Rows of a tile of `columns` columns.
template <class E>
inline int64_t tile_rows(int64_t columns) {
  return columns > kStripColumns<E> / 2 ? kTileRows : kNarrowRows;
}

template <class E>
inline int64_t units(int64_t depth) {
  return (depth + Factor<E>::kDeep - 1) / Factor<E>::kDeep;
}

// A matrix whose element (i, k) is at from[i * row + k * step].
template <class E>
struct Strided {
  const typename E::Stored* from;
  int64_t row;
  int64_t step;
  int64_t depth;

  // As units that lie where the elements do: unit (i, k) at first[i * unit_row + k * unit_step].
  bool is_direct() const {
    constexpr int64_t kFarthest = 2048;  // bytes; beyond it, each number of a column is another page's, or meets the last ones in the cache
    if (!Factor<E>::kAsStored) {
      return false;
    }
    if (Factor<E>::kDeep == 1) {
      return step == 1 || step * static_cast<int64_t>(sizeof(typename E::Stored)) <= kFarthest;
    }
    return step == 1 && depth % 2 == 0 && row % 2 == 0 && reinterpret_cast<uintptr_t>(from) % sizeof(Unit<E>) == 0;
  }
  const Unit<E>* first() const { return reinterpret_cast<const Unit<E>*>(from); }
  int64_t unit_row() const { return row / Factor<E>::kDeep; }
  int64_t unit_step() const { return step; }

  inline Unit<E> unit(int64_t i, int64_t k) const {
    int64_t at = k * Factor<E>::kDeep;
    return Factor<E>::unit(from + i * row + at * step, step, at + 1 < depth);
  }
};

// Lines [0, count) of `x` side by side, [depth, across] units with zeros behind the last line.
template <class E>
void pack(const Strided<E>& x, int64_t count, int64_t across, Unit<E>* to) {
  using U = Unit<E>;
  constexpr bool kSingly = Factor<E>::kDeep == 1;
  int64_t deep = units<E>(x.depth), done = 0;
  if (across % kWide<U> == 0 && x.step == 1 && (kSingly || x.is_direct())) {  // a line's units lie side by side: squares are turned
    int64_t lines = count / kWide<U> * kWide<U>;
    done = deep / kWide<U> * kWide<U>;
    if constexpr (kSingly) {
      transpose_elements<E>(x.from, x.row, to, across, lines, done);
    } else {
      transpose(x.first(), x.unit_row(), to, across, lines, done);
    }
    for (int64_t k = 0; k < done; ++k) {
      for (int64_t i = lines; i < across; ++i) to[k * across + i] = i < count ? x.unit(i, k) : U(0);
    }
  }
  if (x.row == 1 && count == across && across % kWide<U> == 0) {
    for (; done < x.depth / Factor<E>::kDeep; ++done) {
      for (int64_t i = 0; i < across; i += kWide<U>) store(to + done * across + i, Factor<E>::line(x.from + done * Factor<E>::kDeep * x.step + i, x.step));
    }
  } else if (kSingly && x.row == 1 && count == across && across < kWide<U> && x.step >= kWide<U> - across) {
    // Whole registers, of whose numbers the next one covers what are too many; behind the last there may be no memory.
    for (; done + 1 < deep; ++done) store(to + done * across, Factor<E>::line(x.from + done * x.step, x.step));
  }
  for (int64_t k = done; k < deep; ++k) {
    U* __restrict line = to + k * across;
    if (x.row == 1) {
      const typename E::Stored* at = x.from + k * Factor<E>::kDeep * x.step;
      bool whole = k * Factor<E>::kDeep + 1 < x.depth;
      for (int64_t i = 0; i < count; ++i) line[i] = Factor<E>::unit(at + i, x.step, whole);
    } else {
      for (int64_t i = 0; i < count; ++i) line[i] = x.unit(i, k);
    }
    for (int64_t i = count; i < across; ++i) line[i] = U(0);
  }
}

// Lines [0, count) of `x`, whose elements lie side by side, one below the other: `step` units from one to the next.
template <class E>
void pack_lines(const Strided<E>& x, int64_t count, int64_t step, Unit<E>* to) {
  constexpr int64_t kWidth = kWide<Unit<E>>;
  static_assert(Factor<E>::kDeep == 1);
  for (int64_t i = 0; i < count; ++i) {
    int64_t k = 0;
    for (; k + kWidth <= x.depth; k += kWidth) store(to + i * step + k, load_wide<E>(x.from + i * x.row + k));
    for (; k < x.depth; ++k) to[i * step + k] = x.unit(i, k);
  }
}

// sums += rows of A times a strip: unit (i, k) of A at a[i * a_row + k * a_step]. What there is less of, rows or registers of a line, stands in registers while the
// other passes by.
template <class E, int kRows, int kColumns>
MOE_INLINE void add_products(const Unit<E>* a, int64_t a_row, int64_t a_step, const Unit<E>* strip, int64_t deep, Vector<Unit<E>> (&sums)[kRows][kColumns]) {
  using U = Unit<E>;
#pragma GCC unroll kTileSteps
  for (int64_t k = 0; k < deep; ++k) {
    U numbers[kRows];
    Vector<U> line[kColumns];
    if constexpr (kRows < kColumns) {
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) __builtin_memcpy(&numbers[i], a + i * a_row + k * a_step, sizeof(U));
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) {
        line[j] = load(strip + k * kStripColumns<E> + j * kWide<U>);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) Factor<E>::multiply_add(sums[i][j], numbers[i], line[j]);
      }
    } else {
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) line[j] = load(strip + k * kStripColumns<E> + j * kWide<U>);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        __builtin_memcpy(&numbers[i], a + i * a_row + k * a_step, sizeof(U));
#pragma GCC unroll 4
        for (int j = 0; j < kColumns; ++j) Factor<E>::multiply_add(sums[i][j], numbers[i], line[j]);
      }
    }
  }
}

template <int kCount>
struct Count {
  static constexpr int value = kCount;
};

// Calls act(Count) with a count that is known to the compiler, 1 to kMost.
template <int kMost, class Act>
inline void with_count(int64_t count, Act act) {
  if constexpr (kMost > 1) {
    if (count < kMost) {
      return with_count<kMost - 1>(count, act);
    }
  }
  act(Count<kMost>());
}

template <class R, typename T>
inline void put(typename R::Stored* to, Vector<T> x, int64_t count, bool add) {
  if (count >= kWide<T>) {
    store_wide<R>(to, add ? load_wide<R>(to) + x : x);
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    R::store(to + i, add ? static_cast<T>(R::load(to + i)) + x[i] : x[i]);
  }
}

template <class E, class R, int kRows, int kColumns>
inline void tile(const Unit<E>* a, int64_t a_row, int64_t a_step, const Unit<E>* strip, int64_t deep, typename R::Stored* c, int64_t c_row, int64_t columns, bool add) {
  using U = Unit<E>;
  Vector<U> sums[kRows][kColumns] = {};
  add_products<E>(a, a_row, a_step, strip, deep, sums);
  if (columns >= kColumns * kWide<U>) {
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) {
        typename R::Stored* at = c + i * c_row + j * kWide<U>;
        store_wide<R>(at, add ? load_wide<R>(at) + sums[i][j] : sums[i][j]);
      }
    }
    return;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) put<R, U>(c + i * c_row + j * kWide<U>, sums[i][j], columns - j * kWide<U>, add);
  }
}

// A tile of C, of which `rows`, at most tile_rows, and the strip's first `columns` columns are written.
template <class E, class R>
inline void tile_of(int64_t rows, const Unit<E>* a, int64_t a_row, int64_t a_step, const Unit<E>* strip, int64_t deep, typename R::Stored* c, int64_t c_row,
                    int64_t columns, bool add) {
  constexpr int kWidth = kWide<Unit<E>>;
  auto work = [&](auto tall, auto wide) {
    with_count<tall.value>(rows, [&](auto count) {
      with_count<wide.value>((columns + kWidth - 1) / kWidth, [&](auto registers) {
        tile<E, R, count.value, registers.value>(a, a_row, a_step, strip, deep, c, c_row, columns, add);
      });
    });
  };
  columns > kStripColumns<E> / 2 ? work(Count<kTileRows>(), Count<kTileColumns>()) : work(Count<kNarrowRows>(), Count<kTileColumns / 2>());
}

}  // namespace
}  // namespace MOE_ISA
}  // namespace moe

// What attention does to a tile of sixteen queries against blocks of keys: a tile's scores, its weights and their gradients stay in the first
// cache, and what the mask hides is skipped but for the rest of the tile's square. Forward keeps a running maximum and sum a query;
// backward computes the weights again from the sum's logarithm. With P the weights and dO the output's gradient, dV = P^T dO, dP = dO V^T,
// dS = P (dP - sum(dO O)), dQ = dS K and dK = dS^T Q. Of keys that the mask hides within a group of kRows queries the weight is 0, which hides finite values alone: a value
// that is no number reaches all queries of the group that its token is in, and those behind it, as it does behind libtorch's masked softmax.
#pragma once

#include "kernels/attention.h"
#include "kernels/vector_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

constexpr int kTile = 16;                            // queries
constexpr int kKeys = 128;                           // of a block
constexpr int kRows = kRegisterBytes == 64 ? 8 : 4;  // rows of a product that stand in registers, each two registers wide

template <typename T>
constexpr int64_t kStrip = 2 * kWide<T>;
template <typename T>
constexpr int kGroups = kTile / kWide<T>;  // registers for one number a query

inline int64_t rounded(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

template <int kCount>
struct Registers {
  static constexpr int count = kCount;
};

// Calls act(first column, Registers) over `width` columns, a multiple of kWide<T>.
template <typename T, class Act>
inline void by_strips(int64_t width, Act act) {
  int64_t column = 0;
  for (; column + kStrip<T> <= width; column += kStrip<T>) {
    act(column, Registers<2>());
  }
  if (column < width) {
    act(column, Registers<1>());
  }
}

// Memory of one thread. Keys and heads are padded with zeros to `keys` rows and `width` columns.
template <typename T>
struct Scratch {
  int64_t width;
  int64_t keys;
  T* key;          // [keys, width], turned
  T* key_columns;  // [width, keys]
  T* value;        // [keys, width]
  T* query;        // [kTile, width], turned, times 1 / sqrt(h)
  T* result;       // [kTile, width]: the output, or the query's gradient
  T* weights;      // [kTile, kKeys]
  // Backward alone:
  T* value_columns;   // [width, keys]
  T* key_gradient;    // [keys, width]
  T* value_gradient;  // [keys, width]
  T* arriving;        // [kTile, width]: the output's gradient
  T* score_gradient;  // [kTile, kKeys]

  explicit Scratch(const Attention& x, void* memory)
      : width(rounded(x.head_width, kWide<T>)), keys(rounded(x.length, kTile > kStrip<T> ? kTile : kStrip<T>)) {
    T* at = static_cast<T*>(memory);
    auto take = [&](int64_t count) {
      T* taken = at;
      at += count;
      return taken;
    };
    key = take(keys * width);
    key_columns = take(keys * width);
    value = take(keys * width);
    query = take(kTile * width);
    result = take(kTile * width);
    weights = take(kTile * kKeys);
    value_columns = take(keys * width);
    key_gradient = take(keys * width);
    value_gradient = take(keys * width);
    arriving = take(kTile * width);
    score_gradient = at;
  }

  int64_t elements(bool backward) const {
    int64_t forward = 3 * keys * width + kTile * (2 * width + kKeys);
    return backward ? forward + 3 * keys * width + kTile * (width + kKeys) : forward;
  }
};

// From a register a query to one number a query: the queries of a group side by side.
template <typename T, class Join>
inline void join_lanes(Vector<T> (&rows)[kTile], Vector<T> (&joined)[kGroups<T>], Join join) {
#pragma GCC unroll 4
  for (int group = 0; group < kGroups<T>; ++group) {
    Vector<T>* square = rows + group * kWide<T>;
    transpose_square<T>(square);
    Vector<T> all = square[0];
#pragma GCC unroll 16
    for (int i = 1; i < kWide<T>; ++i) {
      all = join(all, square[i]);
    }
    joined[group] = all;
  }
}

template <typename T, int kCount>
inline void put(T* to, const Vector<T> (&values)[kCount]) {
  for (int i = 0; i < kCount; ++i) {
    store(to + i * kWide<T>, values[i]);
  }
}

// Columns behind a row's own become `hidden`.
template <typename T, int kColumns>
MOE_INLINE void mask(Vector<T> (&scores)[kRows][kColumns], int64_t row, int64_t column, T hidden) {
  Vector<T> nothing = Vector<T>{} + hidden;
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < kColumns; ++j) {
      auto last = static_cast<typename Wide<T>::Integer>(row + i - column - j * kWide<T>);
      scores[i][j] = places<T>() > last ? nothing : scores[i][j];
    }
  }
}

// result [kTile, width] (+)= a tile's numbers [kTile, kKeys] times `count` rows of [.., width], of which the tile's row i sees the first `seen` + i alone.
template <typename T>
inline void mix(const T* tile, const T* rows, T* result, int64_t width, int64_t count, int64_t seen, bool add) {
  for (int64_t first = 0; first < kTile; first += kRows) {
    int64_t depth = seen + first + kRows - 1 < count ? seen + first + kRows - 1 : count;
    by_strips<T>(width, [&](int64_t column, auto registers) {
      Vector<T> sums[kRows][registers.count] = {};
      T* to = result + first * width + column;
      if (add) {
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
          for (int j = 0; j < registers.count; ++j) sums[i][j] = load(to + i * width + j * kWide<T>);
        }
      }
      add_products<T>(tile + first * kKeys, kKeys, 1, rows + column, width, depth, sums);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
        for (int j = 0; j < registers.count; ++j) store(to + i * width + j * kWide<T>, sums[i][j]);
      }
    });
  }
}

// gradient rows [0, count) += the transpose of a tile's numbers [kTile, kKeys] times its rows [kTile, width], of which row i sees the first `seen` + i alone.
template <typename T>
inline void add_transposed(const T* tile, const T* rows, T* gradient, int64_t width, int64_t count, int64_t seen) {
  for (int64_t first = 0; first < count; first += kRows) {
    int64_t from = first < seen ? 0 : first - seen + 1;  // the first row that sees any of these
    by_strips<T>(width, [&](int64_t column, auto registers) {
      Vector<T> sums[kRows][registers.count];
      T* to = gradient + first * width + column;
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
        for (int j = 0; j < registers.count; ++j) sums[i][j] = load(to + i * width + j * kWide<T>);
      }
      add_products<T>(tile + from * kKeys + first, 1, kKeys, rows + from * width + column, width, kTile - from, sums);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
        for (int j = 0; j < registers.count; ++j) store(to + i * width + j * kWide<T>, sums[i][j]);
      }
    });
  }
}

// The scores of a tile whose first query is `first`, for `count` keys from `begin` on, with the maximum of each query's.
template <typename T>
inline void score(const Scratch<T>& s, int64_t depth, int64_t first, int64_t begin, int64_t count, Vector<T> (&most)[kTile]) {
  const T hidden = -static_cast<T>(__builtin_inf());
  for (int64_t row = 0; row < kTile; row += kRows) {
    Vector<T> top[kRows];
    for (auto& x : top) x = Vector<T>{} + hidden;
    by_strips<T>(count, [&](int64_t column, auto registers) {
      Vector<T> scores[kRows][registers.count] = {};
      add_products<T>(s.query + row * s.width, s.width, 1, s.key_columns + begin + column, s.keys, depth, scores);
      if (begin + column + registers.count * kWide<T> > first + row) {
        mask<T>(scores, first + row, begin + column, hidden);
      }
      T* to = s.weights + row * kKeys + column;
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
        for (int j = 0; j < registers.count; ++j) {
          store(to + i * kKeys + j * kWide<T>, scores[i][j]);
          top[i] = larger<T>(top[i], scores[i][j]);
        }
      }
    });
    for (int i = 0; i < kRows; ++i) most[row + i] = top[i];
  }
}

// Leaves the tile's output in s.result, not yet divided by `sums`.
template <typename T>
void attend(const Scratch<T>& s, int64_t depth, int64_t first, Vector<T> (&maxima)[kGroups<T>], Vector<T> (&sums)[kGroups<T>]) {
  for (int group = 0; group < kGroups<T>; ++group) {
    maxima[group] = Vector<T>{} - static_cast<T>(__builtin_inf());
    sums[group] = Vector<T>{};
  }
  int64_t end = first + kTile;
  for (int64_t begin = 0; begin < end; begin += kKeys) {
    int64_t count = end - begin < kKeys ? end - begin : kKeys;
    Vector<T> rows[kTile], joined[kGroups<T>];
    score<T>(s, depth, first, begin, count, rows);
    join_lanes<T>(rows, joined, larger<T>);
    T most[kTile], kept[kTile];
    Vector<T> factors[kGroups<T>];
    for (int group = 0; group < kGroups<T>; ++group) {
      Vector<T> now = larger<T>(maxima[group], joined[group]);
      factors[group] = wide_exponential(maxima[group] - now);
      maxima[group] = now;
    }
    put<T>(most, maxima);
    for (int i = 0; i < kTile; ++i) {
      T* weights = s.weights + i * kKeys;
      Vector<T> sum = {};
      for (int64_t column = 0; column < count; column += kWide<T>) {
        Vector<T> weight = wide_exponential(load(weights + column) - most[i]);
        store(weights + column, weight);
        sum += weight;
      }
      rows[i] = sum;
    }
    join_lanes<T>(rows, joined, [](Vector<T> a, Vector<T> b) { return a + b; });
    for (int group = 0; group < kGroups<T>; ++group) {
      sums[group] = sums[group] * factors[group] + joined[group];
    }
    if (begin > 0) {
      put<T>(kept, factors);
      for (int64_t i = 0; i < kTile * s.width; ++i) {
        s.result[i] *= kept[i / s.width];
      }
    }
    mix<T>(s.weights, s.value + begin * s.width, s.result, s.width, count, first + 1 - begin, begin > 0);
  }
}

// The tile's query gradient goes to s.result; the keys' and values' are added to.
template <typename T>
void attend_back(const Scratch<T>& s, int64_t depth, int64_t first, const T* log_sums, const T* deltas) {
  int64_t end = first + kTile;
  for (int64_t begin = 0; begin < end; begin += kKeys) {
    int64_t count = end - begin < kKeys ? end - begin : kKeys;
    for (int64_t row = 0; row < kTile; row += kRows) {
      by_strips<T>(count, [&](int64_t column, auto registers) {
        T* weights = s.weights + row * kKeys + column;
        T* gradients = s.score_gradient + row * kKeys + column;
        Vector<T> scores[kRows][registers.count] = {};
        add_products<T>(s.query + row * s.width, s.width, 1, s.key_columns + begin + column, s.keys, depth, scores);
        if (begin + column + registers.count * kWide<T> > first + row) {
          mask<T>(scores, first + row, begin + column, -static_cast<T>(__builtin_inf()));
        }
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
          for (int j = 0; j < registers.count; ++j) store(weights + i * kKeys + j * kWide<T>, wide_exponential(scores[i][j] - log_sums[row + i]));
        }
        Vector<T> products[kRows][registers.count] = {};
        add_products<T>(s.arriving + row * s.width, s.width, 1, s.value_columns + begin + column, s.keys, depth, products);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
          for (int j = 0; j < registers.count; ++j) {
            store(gradients + i * kKeys + j * kWide<T>, load(weights + i * kKeys + j * kWide<T>) * (products[i][j] - deltas[row + i]));
          }
        }
      });
    }
    int64_t seen = first + 1 - begin;
    add_transposed<T>(s.weights, s.arriving, s.value_gradient + begin * s.width, s.width, count, seen);
    add_transposed<T>(s.score_gradient, s.query, s.key_gradient + begin * s.width, s.width, count, seen);
    mix<T>(s.score_gradient, s.key + begin * s.width, s.result, s.width, count, seen, begin > 0);
  }
}

}  // namespace
}  // namespace MOE_ISA
}  // namespace moe

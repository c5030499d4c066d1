// Sixteen queries at a time against blocks of keys: a tile's scores, its weights and their gradients stay in the first cache, and what the
// mask hides is skipped but for the rest of a strip of columns. Forward keeps a running maximum and sum a query; backward computes the
// weights again from the sum's logarithm. With P the weights and dO the output's gradient, dV = P^T dO, dP = dO V^T,
// dS = P (dP - sum(dO O)), dQ = dS K and dK = dS^T Q.
#if defined(__AVX2__) && !defined(__FMA__)
#pragma GCC target("fma")
#endif
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

inline float logarithm(float x) { return __builtin_logf(x); }
inline double logarithm(double x) { return __builtin_log(x); }

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
  T* key;             // [keys, width], turned
  T* key_columns;     // [width, keys]
  T* value;           // [keys, width]
  T* value_columns;   // [width, keys]; backward only
  T* key_gradient;    // [keys, width]; backward only
  T* value_gradient;  // [keys, width]; backward only
  T* query;           // [kTile, width], turned, times 1 / sqrt(h)
  T* arriving;        // [kTile, width]: the output's gradient; backward only
  T* result;          // [kTile, width]: the output, or the query's gradient
  T* weights;         // [kTile, kKeys]
  T* slopes;          // [kTile, kKeys]: the scores' gradient; backward only

  explicit Scratch(const Attention& x, void* memory)
      : width(rounded(x.head_width, kWide<T>)), keys(rounded(x.length, kTile > kStrip<T> ? kTile : kStrip<T>)) {
    T* at = static_cast<T*>(memory);
    T** whole_ones[] = {&key, &key_columns, &value, &value_columns, &key_gradient, &value_gradient};
    T** tiles[] = {&query, &arriving, &result};
    for (T** whole : whole_ones) {
      *whole = at;
      at += keys * width;
    }
    for (T** tile : tiles) {
      *tile = at;
      at += kTile * width;
    }
    weights = at;
    slopes = at + kTile * kKeys;
  }

  int64_t elements() const { return 6 * keys * width + kTile * (3 * width + 2 * kKeys); }
};

// One head of one sequence within rows of several.
template <class E>
struct Head {
  typename E::Stored* first;
  int64_t step;  // between tokens

  Head(const void* rows, int64_t sequence, int64_t head, int64_t heads, const Attention& x)
      : first(static_cast<typename E::Stored*>(const_cast<void*>(rows)) + (sequence * x.length * heads + head) * x.head_width), step(heads * x.head_width) {}

  typename E::Stored* at(int64_t token) const { return first + token * step; }
};

template <class E>
struct Angles {
  using T = typename E::Work;
  const T* cosine;
  const T* sine;
  int64_t pairs;

  explicit Angles(const Attention& x) : cosine(static_cast<const T*>(x.cosine)), sine(static_cast<const T*>(x.sine)), pairs(x.head_width / 2) {}

  inline void turn(const typename E::Stored* __restrict from, T* __restrict to, int64_t position, T scale) const {
    const T* __restrict c = cosine + position * pairs;
    const T* __restrict s = sine + position * pairs;
#pragma GCC ivdep
    for (int64_t i = 0; i < pairs; ++i) {
      T x = E::load(from + i), y = E::load(from + pairs + i);
      to[i] = (x * c[i] - y * s[i]) * scale;
      to[pairs + i] = (y * c[i] + x * s[i]) * scale;
    }
  }

  inline void turn_back(const T* __restrict from, typename E::Stored* __restrict to, int64_t position, T scale) const {
    const T* __restrict c = cosine + position * pairs;
    const T* __restrict s = sine + position * pairs;
#pragma GCC ivdep
    for (int64_t i = 0; i < pairs; ++i) {
      T x = from[i], y = from[pairs + i];
      E::store(to + i, (x * c[i] + y * s[i]) * scale);
      E::store(to + pairs + i, (y * c[i] - x * s[i]) * scale);
    }
  }
};

template <class E>
inline void read(const typename E::Stored* __restrict from, typename E::Work* __restrict to, int64_t count) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    to[i] = E::load(from + i);
  }
}

template <class E>
inline void write(const typename E::Work* __restrict from, typename E::Work scale, typename E::Stored* __restrict to, int64_t count) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) {
    E::store(to + i, from[i] * scale);
  }
}

template <typename T>
inline void clear(T* values, int64_t count) {
  __builtin_memset(values, 0, count * sizeof(T));
}

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
template <typename T>
inline void mask(Vector<T> (&scores)[kRows][2], int64_t row, int64_t column, T hidden) {
  Vector<T> nothing = Vector<T>{} + hidden;
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      auto last = static_cast<typename Wide<T>::Integer>(row + i - column - j * kWide<T>);
      scores[i][j] = places<T>() > last ? nothing : scores[i][j];
    }
  }
}

// result rows [first, first + kRows) (+)= a tile's numbers [kTile, kKeys] times `count` rows of [.., width].
template <typename T>
inline void mix(const T* tile, const T* rows, T* result, int64_t width, int64_t count, bool add) {
  for (int64_t first = 0; first < kTile; first += kRows) {
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
      add_products<T>(tile + first * kKeys, kKeys, 1, rows + column, width, count, sums);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
        for (int j = 0; j < registers.count; ++j) store(to + i * width + j * kWide<T>, sums[i][j]);
      }
    });
  }
}

// gradient rows [0, count) += the transpose of a tile's numbers [kTile, kKeys] times its rows [kTile, width].
template <typename T>
inline void add_transposed(const T* tile, const T* rows, T* gradient, int64_t width, int64_t count) {
  for (int64_t first = 0; first < count; first += kRows) {
    by_strips<T>(width, [&](int64_t column, auto registers) {
      Vector<T> sums[kRows][registers.count];
      T* to = gradient + first * width + column;
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
        for (int j = 0; j < registers.count; ++j) sums[i][j] = load(to + i * width + j * kWide<T>);
      }
      add_products<T>(tile + first, 1, kKeys, rows + column, width, kTile, sums);
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
    for (int64_t column = 0; column < count; column += kStrip<T>) {
      Vector<T> scores[kRows][2] = {};
      add_products<T>(s.query + row * s.width, s.width, 1, s.key_columns + begin + column, s.keys, depth, scores);
      if (begin + column + kStrip<T> > first + row) {
        mask<T>(scores, first + row, begin + column, hidden);
      }
      T* to = s.weights + row * kKeys + column;
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        store(to + i * kKeys, scores[i][0]);
        store(to + i * kKeys + kWide<T>, scores[i][1]);
        top[i] = larger<T>(top[i], larger<T>(scores[i][0], scores[i][1]));
      }
    }
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
  int64_t end = rounded(first + kTile, kStrip<T>);
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
    mix<T>(s.weights, s.value + begin * s.width, s.result, s.width, count, begin > 0);
  }
}

// The tile's query gradient goes to s.result; the keys' and values' are added to.
template <typename T>
void attend_back(const Scratch<T>& s, int64_t depth, int64_t first, const T* log_sums, const T* deltas) {
  int64_t end = rounded(first + kTile, kStrip<T>);
  for (int64_t begin = 0; begin < end; begin += kKeys) {
    int64_t count = end - begin < kKeys ? end - begin : kKeys;
    for (int64_t row = 0; row < kTile; row += kRows) {
      for (int64_t column = 0; column < count; column += kStrip<T>) {
        T* weights = s.weights + row * kKeys + column;
        T* slopes = s.slopes + row * kKeys + column;
        Vector<T> scores[kRows][2] = {};
        add_products<T>(s.query + row * s.width, s.width, 1, s.key_columns + begin + column, s.keys, depth, scores);
        if (begin + column + kStrip<T> > first + row) {
          mask<T>(scores, first + row, begin + column, -static_cast<T>(__builtin_inf()));
        }
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
          store(weights + i * kKeys, wide_exponential(scores[i][0] - log_sums[row + i]));
          store(weights + i * kKeys + kWide<T>, wide_exponential(scores[i][1] - log_sums[row + i]));
        }
        Vector<T> products[kRows][2] = {};
        add_products<T>(s.arriving + row * s.width, s.width, 1, s.value_columns + begin + column, s.keys, depth, products);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
          store(slopes + i * kKeys, load(weights + i * kKeys) * (products[i][0] - deltas[row + i]));
          store(slopes + i * kKeys + kWide<T>, load(weights + i * kKeys + kWide<T>) * (products[i][1] - deltas[row + i]));
        }
      }
    }
    add_transposed<T>(s.weights, s.arriving, s.value_gradient + begin * s.width, s.width, count);
    add_transposed<T>(s.slopes, s.query, s.key_gradient + begin * s.width, s.width, count);
    mix<T>(s.slopes, s.key + begin * s.width, s.result, s.width, count, begin > 0);
  }
}

// Reads the tile's queries; rows behind the sequence's end become zeros.
template <class E>
inline void read_queries(const Attention& x, const Head<E>& query, const Angles<E>& angles, int64_t first, int64_t rows, const Scratch<typename E::Work>& s) {
  using T = typename E::Work;
  T scale = static_cast<T>(1 / __builtin_sqrt(static_cast<double>(x.head_width)));
  for (int64_t i = 0; i < rows; ++i) {
    angles.turn(query.at(first + i), s.query + i * s.width, first + i, scale);
  }
  clear(s.query + rows * s.width, (kTile - rows) * s.width);
}

template <class E>
inline void read_keys(const Attention& x, const Head<E>& key, const Head<E>& value, const Angles<E>& angles, const Scratch<typename E::Work>& s) {
  for (int64_t token = 0; token < x.length; ++token) {
    angles.turn(key.at(token), s.key + token * s.width, token, 1);
    read<E>(value.at(token), s.value + token * s.width, x.head_width);
  }
  transpose(s.key, s.width, s.key_columns, s.keys, s.keys, s.width);
}

template <class E>
void forward_units(const Attention& x, int64_t begin, int64_t end, void* memory) {
  using T = typename E::Work;
  Scratch<T> s(x, memory);
  clear(static_cast<T*>(memory), s.elements());
  Angles<E> angles(x);
  int64_t all = x.heads + 2 * x.key_value_heads, group = x.heads / x.key_value_heads;
  for (int64_t unit = begin; unit < end; ++unit) {
    int64_t sequence = unit / x.key_value_heads, shared = unit % x.key_value_heads;
    read_keys<E>(x, Head<E>(x.projection, sequence, x.heads + shared, all, x), Head<E>(x.projection, sequence, x.heads + x.key_value_heads + shared, all, x), angles, s);
    for (int64_t head = shared * group; head < (shared + 1) * group; ++head) {
      Head<E> query(x.projection, sequence, head, all, x), output(x.output, sequence, head, x.heads, x);
      T* log_sums = static_cast<T*>(x.log_sums) + (sequence * x.heads + head) * x.length;
      for (int64_t first = 0; first < x.length; first += kTile) {
        int64_t rows = x.length - first < kTile ? x.length - first : kTile;
        read_queries<E>(x, query, angles, first, rows, s);
        Vector<T> maxima[kGroups<T>], sums[kGroups<T>];
        attend<T>(s, x.head_width, first, maxima, sums);
        T most[kTile], total[kTile];
        put<T>(most, maxima);
        put<T>(total, sums);
        for (int64_t i = 0; i < rows; ++i) {
          log_sums[first + i] = most[i] + logarithm(total[i]);
          write<E>(s.result + i * s.width, 1 / total[i], output.at(first + i), x.head_width);
        }
      }
    }
  }
}

// Reads what arrives at the tile, and deltas[i] = sum over a row of output * gradient.
template <class E>
inline void read_arriving(const Attention& x, const Head<E>& arriving, const Head<E>& output, int64_t first, int64_t rows,
                          const Scratch<typename E::Work>& s, typename E::Work (&deltas)[kTile]) {
  using T = typename E::Work;
  Vector<T> products[kTile] = {};
  Vector<T> joined[kGroups<T>];
  for (int64_t i = 0; i < rows; ++i) {
    T* to = s.arriving + i * s.width;
    read<E>(arriving.at(first + i), to, x.head_width);
    T* mixed = s.result + i * s.width;  // free until the query's gradient is worked
    read<E>(output.at(first + i), mixed, x.head_width);
    for (int64_t column = 0; column < s.width; column += kWide<T>) {
      products[i] += load(to + column) * load(mixed + column);
    }
  }
  clear(s.arriving + rows * s.width, (kTile - rows) * s.width);
  join_lanes<T>(products, joined, [](Vector<T> a, Vector<T> b) { return a + b; });
  put<T>(deltas, joined);
}

template <class E>
void backward_units(const Attention& x, int64_t begin, int64_t end, void* memory) {
  using T = typename E::Work;
  Scratch<T> s(x, memory);
  clear(static_cast<T*>(memory), s.elements());
  Angles<E> angles(x);
  int64_t all = x.heads + 2 * x.key_value_heads, group = x.heads / x.key_value_heads;
  T scale = static_cast<T>(1 / __builtin_sqrt(static_cast<double>(x.head_width)));
  for (int64_t unit = begin; unit < end; ++unit) {
    int64_t sequence = unit / x.key_value_heads, shared = unit % x.key_value_heads;
    int64_t key_at = x.heads + shared, value_at = key_at + x.key_value_heads;
    read_keys<E>(x, Head<E>(x.projection, sequence, key_at, all, x), Head<E>(x.projection, sequence, value_at, all, x), angles, s);
    transpose(s.value, s.width, s.value_columns, s.keys, s.keys, s.width);
    clear(s.key_gradient, 2 * s.keys * s.width);
    for (int64_t head = shared * group; head < (shared + 1) * group; ++head) {
      Head<E> query(x.projection, sequence, head, all, x), output(x.output, sequence, head, x.heads, x);
      Head<E> arriving(x.output_gradient, sequence, head, x.heads, x), leaving(x.projection_gradient, sequence, head, all, x);
      const T* kept = static_cast<const T*>(x.log_sums) + (sequence * x.heads + head) * x.length;
      for (int64_t first = 0; first < x.length; first += kTile) {
        int64_t rows = x.length - first < kTile ? x.length - first : kTile;
        T log_sums[kTile] = {}, deltas[kTile];
        __builtin_memcpy(log_sums, kept + first, rows * sizeof(T));
        read_queries<E>(x, query, angles, first, rows, s);
        read_arriving<E>(x, arriving, output, first, rows, s, deltas);
        attend_back<T>(s, x.head_width, first, log_sums, deltas);
        for (int64_t i = 0; i < rows; ++i) {
          angles.turn_back(s.result + i * s.width, leaving.at(first + i), first + i, scale);
        }
      }
    }
    Head<E> key_leaving(x.projection_gradient, sequence, key_at, all, x), value_leaving(x.projection_gradient, sequence, value_at, all, x);
    for (int64_t token = 0; token < x.length; ++token) {
      angles.turn_back(s.key_gradient + token * s.width, key_leaving.at(token), token, 1);
      write<E>(s.value_gradient + token * s.width, 1, value_leaving.at(token), x.head_width);
    }
  }
}

}  // namespace

int64_t attention_scratch(const Attention& x) {
  return x.type == Type::Float64 ? Scratch<double>(x, nullptr).elements() * sizeof(double) : Scratch<float>(x, nullptr).elements() * sizeof(float);
}

void attention_forward(const Attention& x, int64_t begin, int64_t end, void* scratch) {
  with_elements(x.type, [&](auto e) { forward_units<decltype(e)>(x, begin, end, scratch); });
}

void attention_backward(const Attention& x, int64_t begin, int64_t end, void* scratch) {
  with_elements(x.type, [&](auto e) { backward_units<decltype(e)>(x, begin, end, scratch); });
}

}  // namespace MOE_ISA
}  // namespace moe

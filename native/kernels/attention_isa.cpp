// Heads read from the fused projection and turned, tile by tile through attention_tile_isa.h, and written back.
#include "kernels/attention_tile_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

// One head of one sequence within rows of several.
template <class E>
struct Head {
  typename E::Stored* first;
  int64_t step;  // between tokens

  Head(const void* rows, int64_t sequence, int64_t head, int64_t heads, const Attention& x)
      : first(static_cast<typename E::Stored*>(const_cast<void*>(rows)) + (sequence * x.length * heads + head) * x.head_width), step(heads * x.head_width) {}

  typename E::Stored* at(int64_t token) const { return first + token * step; }

  // Asks for the numbers of some tokens: they lie so far apart that no processor looks ahead by itself.
  template <int kWrite>
  MOE_INLINE void ask_for(int64_t token, int64_t count, int64_t width) const {
    constexpr int64_t kBytes = sizeof(typename E::Stored);
    fetch<kWrite>(at(token), count, step * kBytes, width * kBytes);
  }
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

// Asks for what the unit after `unit` reads first of some tokens: keys, values and queries of its first head.
template <class E>
MOE_INLINE void fetch_unit(const Attention& x, int64_t unit, int64_t end, int64_t token, int64_t count) {
  if (unit + 1 == end) {
    return;
  }
  int64_t sequence = (unit + 1) / x.key_value_heads, kv_head = (unit + 1) % x.key_value_heads, query = kv_head * (x.heads / x.key_value_heads);
  int64_t all = x.heads + 2 * x.key_value_heads;
  const int64_t read[] = {x.heads + kv_head, x.heads + x.key_value_heads + kv_head, query};
  for (int64_t head : read) {
    Head<E>(x.projection, sequence, head, all, x).template ask_for<0>(token, count, x.head_width);
  }
  if (x.output_gradient != nullptr) {
    Head<E>(x.output, sequence, query, x.heads, x).template ask_for<0>(token, count, x.head_width);
    Head<E>(x.output_gradient, sequence, query, x.heads, x).template ask_for<0>(token, count, x.head_width);
  }
}

template <class E>
void forward_units(const Attention& x, int64_t begin, int64_t end, void* memory) {
  using T = typename E::Work;
  Scratch<T> s(x, memory);
  clear(static_cast<T*>(memory), s.elements(false));
  Angles<E> angles(x);
  int64_t all = x.heads + 2 * x.key_value_heads, group = x.heads / x.key_value_heads;
  for (int64_t unit = begin; unit < end; ++unit) {
    int64_t sequence = unit / x.key_value_heads, kv_head = unit % x.key_value_heads;
    read_keys<E>(x, Head<E>(x.projection, sequence, x.heads + kv_head, all, x), Head<E>(x.projection, sequence, x.heads + x.key_value_heads + kv_head, all, x), angles, s);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      Head<E> query(x.projection, sequence, head, all, x), output(x.output, sequence, head, x.heads, x);
      T* log_sums = static_cast<T*>(x.log_sums) + (sequence * x.heads + head) * x.length;
      for (int64_t first = 0; first < x.length; first += kTile) {
        int64_t rows = x.length - first < kTile ? x.length - first : kTile;
        read_queries<E>(x, query, angles, first, rows, s);
        output.template ask_for<1>(first, rows, x.head_width);
        if (head == kv_head * group) {
          fetch_unit<E>(x, unit, end, first, rows);
        }
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
    clear(mixed + x.head_width, s.width - x.head_width);  // a gradient that was no number has left none there: times 0 it would stay one
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
  clear(static_cast<T*>(memory), s.elements(true));
  Angles<E> angles(x);
  int64_t all = x.heads + 2 * x.key_value_heads, group = x.heads / x.key_value_heads;
  T scale = static_cast<T>(1 / __builtin_sqrt(static_cast<double>(x.head_width)));
  for (int64_t unit = begin; unit < end; ++unit) {
    int64_t sequence = unit / x.key_value_heads, kv_head = unit % x.key_value_heads;
    int64_t key_at = x.heads + kv_head, value_at = key_at + x.key_value_heads;
    read_keys<E>(x, Head<E>(x.projection, sequence, key_at, all, x), Head<E>(x.projection, sequence, value_at, all, x), angles, s);
    transpose(s.value, s.width, s.value_columns, s.keys, s.keys, s.width);
    Head<E> key_leaving(x.projection_gradient, sequence, key_at, all, x), value_leaving(x.projection_gradient, sequence, value_at, all, x);
    clear(s.key_gradient, 2 * s.keys * s.width);
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      Head<E> query(x.projection, sequence, head, all, x), output(x.output, sequence, head, x.heads, x);
      Head<E> arriving(x.output_gradient, sequence, head, x.heads, x), leaving(x.projection_gradient, sequence, head, all, x);
      const T* kept = static_cast<const T*>(x.log_sums) + (sequence * x.heads + head) * x.length;
      for (int64_t first = 0; first < x.length; first += kTile) {
        int64_t rows = x.length - first < kTile ? x.length - first : kTile;
        T log_sums[kTile] = {}, deltas[kTile];
        __builtin_memcpy(log_sums, kept + first, rows * sizeof(T));
        read_queries<E>(x, query, angles, first, rows, s);
        read_arriving<E>(x, arriving, output, first, rows, s, deltas);
        leaving.template ask_for<1>(first, rows, x.head_width);
        if (head == kv_head * group) {
          key_leaving.template ask_for<1>(first, rows, x.head_width);
          value_leaving.template ask_for<1>(first, rows, x.head_width);
          fetch_unit<E>(x, unit, end, first, rows);
        }
        attend_back<T>(s, x.head_width, first, log_sums, deltas);
        for (int64_t i = 0; i < rows; ++i) {
          angles.turn_back(s.result + i * s.width, leaving.at(first + i), first + i, scale);
        }
      }
    }
    for (int64_t token = 0; token < x.length; ++token) {
      angles.turn_back(s.key_gradient + token * s.width, key_leaving.at(token), token, 1);
      write<E>(s.value_gradient + token * s.width, 1, value_leaving.at(token), x.head_width);
    }
  }
}

}  // namespace

int64_t attention_scratch(const Attention& x) {
  bool backward = x.output_gradient != nullptr;
  return x.type == Type::Float64 ? Scratch<double>(x, nullptr).elements(backward) * sizeof(double) : Scratch<float>(x, nullptr).elements(backward) * sizeof(float);
}

void attention_forward(const Attention& x, int64_t begin, int64_t end, void* scratch) {
  with_elements(x.type, [&](auto e) { forward_units<decltype(e)>(x, begin, end, scratch); });
}

void attention_backward(const Attention& x, int64_t begin, int64_t end, void* scratch) {
  with_elements(x.type, [&](auto e) { backward_units<decltype(e)>(x, begin, end, scratch); });
}

}  // namespace MOE_ISA
}  // namespace moe

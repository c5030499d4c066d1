// An expert's matrices are packed once. Forward: of each strip, gate columns fill the first half of the registers and their up columns the other, so that a tile's
// activation is made where its sums stand. Backward: the activation's gradient is turned into those of gate and up where its sums stand, and the block's rows then
// give the rows' gradients and add to the matrices'. With s = sigmoid(gate) and da = w * (its gradient): dup = da gate s, dgate = da up s (1 + gate (1 - s)).
#include "kernels/experts.h"
#include "kernels/product_tile_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

constexpr int64_t kBlockRows = (64 + kTileRows - 1) / kTileRows * kTileRows;  // some 64, whole tiles
constexpr int64_t kLine = 64;  // bytes

// Past the caches, where a register is a whole line of them: forward's first projection is not read before backward. Halves of lines would reach memory one by one.
inline void stream(float* to, Vector<float> x) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, (__m512)x);
#else
  store(to, x);
#endif
}
inline void stream(double* to, Vector<double> x) {
#if defined(__AVX512F__)
  _mm512_stream_pd(to, (__m512d)x);
#else
  store(to, x);
#endif
}
inline void end_stream() {
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}

// silu(x) = value * sigmoid, where value is x, held where its sigmoid can be.
template <typename T>
struct Gate {
  Vector<T> value;
  Vector<T> sigmoid;
};

MOE_INLINE Gate<double> gate_of(Vector<double> x) { return {x, 1.0 / (1.0 + wide_exponential(-x))}; }
// What lies below -88, an infinity too, counts as that: its silu is -5e-37.
MOE_INLINE Gate<float> gate_of(Vector<float> x) {
  Vector<float> value = at_least(-88.0f, x);
  return {value, 1.0f / (1.0f + exponential_in_range(-at_most(88.0f, value)))};
}

template <typename T>
inline T total(Vector<T> x) {
  T sum = x[0];
  for (int i = 1; i < kWide<T>; ++i) sum += x[i];
  return sum;
}

template <class E>
struct Shapes {
  using T = typename E::Work;
  static constexpr int64_t kStrip = kStripColumns<E>;
  static constexpr int64_t kHalf = kStrip / 2;  // at most a cache line, of which F is a multiple

  const Experts& x;
  int64_t width;   // D
  int64_t hidden;  // F

  explicit Shapes(const Experts& of) : x(of), width(of.width), hidden(of.hidden_width) {}

  static int64_t strips(int64_t columns) { return (columns + kStrip - 1) / kStrip; }
  int64_t hidden_step() const { return 2 * hidden + kLine / static_cast<int64_t>(sizeof(T)); }  // of a block: rows that don't all meet in a few sets of the cache
  int64_t step() const { return hidden + kLine / static_cast<int64_t>(sizeof(T)); }

  int64_t gate_up_elements() const { return 2 * hidden * width; }
  int64_t elements() const {
    int64_t forward = gate_up_elements() + strips(width) * kStrip * hidden + kBlockRows * step();
    int64_t backward = strips(hidden) * kStrip * width + strips(width) * kStrip * 2 * hidden +
                       kBlockRows * (hidden_step() + (strips(hidden) + strips(width)) * kStrip + kWide<T>);
    return forward > backward ? forward : backward;
  }

  int64_t start(int64_t expert) const { return expert == 0 ? 0 : x.ends[expert - 1]; }
  const T* gate_up(int64_t expert) const { return static_cast<const T*>(x.gate_up) + expert * 2 * hidden * width; }
  const T* down(int64_t expert) const { return static_cast<const T*>(x.down) + expert * width * hidden; }
  const T* rows(int64_t row) const { return static_cast<const T*>(x.x) + row * width; }
  T* first(int64_t row) const { return static_cast<T*>(x.hidden) + row * 2 * hidden; }
  void read_weights(int64_t first, int64_t rows, T* to) const {
    for (int64_t i = 0; i < rows; ++i) to[i] = x.w == nullptr ? T(1) : static_cast<const T*>(x.w)[first + i];
  }
};

// Columns of `matrix` [depth, columns], element (k, n) at k * step + n * column, in strips.
template <class E>
void pack_strips(const typename E::Stored* matrix, int64_t depth, int64_t columns, int64_t step, int64_t column, Unit<E>* to) {
  for (int64_t first = 0; first < columns; first += kStripColumns<E>, to += depth * kStripColumns<E>) {
    int64_t left = columns - first;
    pack<E>({matrix + first * column, column, step, depth}, left < kStripColumns<E> ? left : kStripColumns<E>, kStripColumns<E>, to);
  }
}

// Calls act(first row, rows) for the tiles of `rows` rows.
template <class Act>
inline void each_tile(int64_t rows, int64_t tall, Act act) {
  for (int64_t row = 0; row < rows; row += tall) act(row, rows - row < tall ? rows - row : tall);
}

// C [rows, columns] (+)= A times what is packed.
template <class E>
void multiply(const Unit<E>* a, int64_t a_row, int64_t a_step, const Unit<E>* strips, int64_t deep, typename E::Stored* c, int64_t c_row, int64_t rows, int64_t columns,
              bool add) {
  for (int64_t first = 0; first < columns; first += kStripColumns<E>, strips += deep * kStripColumns<E>) {
    each_tile(rows, tile_rows<E>(columns - first), [&](int64_t row, int64_t count) {
      tile_of<E, E>(count, a + row * a_row, a_row, a_step, strips, deep, c + row * c_row + first, c_row, columns - first, add);
    });
  }
}

template <class E>
void forward(const Experts& x, void* y, int64_t begin, int64_t end, void* scratch) {
  using T = typename E::Work;
  using V = Vector<T>;
  Shapes<E> s(x);
  constexpr int kSide = kTileColumns / 2;  // registers of gates, and as many of ups
  T* gate_up = static_cast<T*>(scratch);
  T* down = gate_up + s.gate_up_elements();
  T* activation = down + s.strips(s.width) * s.kStrip * s.hidden;
  T weights[kBlockRows];
  for (int64_t expert = begin; expert < end; ++expert) {
    int64_t last = x.ends[expert];
    if (s.start(expert) == last) {
      continue;
    }
    for (int64_t column = 0; column < s.hidden; column += s.kHalf) {
      T* strip = gate_up + 2 * column * s.width;
      for (int side = 0; side < 2; ++side) {
        const T* from = s.gate_up(expert) + (side * s.hidden + column) * s.width;
        transpose(from, s.width, strip + side * s.kHalf, s.kStrip, s.kHalf, s.width);
      }
    }
    pack_strips<E>(s.down(expert), s.hidden, s.width, 1, s.hidden, down);
    for (int64_t block = s.start(expert); block < last; block += kBlockRows) {
      int64_t rows = last - block < kBlockRows ? last - block : kBlockRows;
      s.read_weights(block, rows, weights);
      for (int64_t column = 0; column < s.hidden; column += s.kHalf) {
        each_tile(rows, kTileRows, [&](int64_t row, int64_t count) {
          if (column == 0 && block + row + count < last) {
            int64_t after = last - block - row - count;
            fetch<0>(s.rows(block + row + count), after < kTileRows ? after : kTileRows, s.width * sizeof(T), s.width * sizeof(T));
          }
          if (sizeof(V) < kLine) {  // what this tile writes, unless past the caches
            for (int side = 0; side < 2; ++side) fetch<1>(s.first(block + row) + side * s.hidden + column, count, 2 * s.hidden * sizeof(T), s.kHalf * sizeof(T));
          }
          with_count<kTileRows>(count, [&](auto known) {
            constexpr int kRows = known.value;
            V sums[kRows][kTileColumns] = {};
            add_products<E>(s.rows(block + row), s.width, 1, gate_up + 2 * column * s.width, s.width, sums);
#pragma GCC unroll 8
            for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
              for (int j = 0; j < kSide; ++j) {
                T* first = s.first(block + row + i) + column + j * kWide<T>;
                V up = sums[i][kSide + j];
                stream(first, sums[i][j]);
                stream(first + s.hidden, up);
                auto gate = gate_of(sums[i][j]);
                store(activation + (row + i) * s.step() + column + j * kWide<T>, gate.value * gate.sigmoid * up * weights[row + i]);
              }
            }
          });
        });
      }
      multiply<E>(activation, s.step(), 1, down, s.hidden, static_cast<T*>(y) + block * s.width, s.width, rows, s.width, false);
    }
  }
  end_stream();
}

// The part of a block's backward that has a strip of its activation: its gradient's tile, turned into those of gate and up.
template <class E, int kRows, int kColumns>
MOE_INLINE void turn_back(const Shapes<E>& s, int64_t row, const typename E::Work* weights, const Vector<typename E::Work> (&sums)[kRows][kColumns], int64_t column,
                          typename E::Work* activation, typename E::Work* slopes, Vector<typename E::Work>* dots) {
  using T = typename E::Work;
  using V = Vector<T>;
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    T weight = weights[i];
    V dot = dots[i];
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      const T* first = s.first(row + i) + column + j * kWide<T>;
      auto [gate, sigmoid] = gate_of(load(first));
      V up = load(first + s.hidden), arriving = sums[i][j];
      V silu = gate * sigmoid, plain = silu * up, weighted = arriving * weight;
      dot += arriving * plain;
      store(activation + i * s.kStrip + j * kWide<T>, plain * weight);
      T* slope = slopes + i * s.hidden_step() + column + j * kWide<T>;
      store(slope, weighted * up * (sigmoid + silu * (T(1) - sigmoid)));
      store(slope + s.hidden, weighted * silu);
    }
    dots[i] = dot;
  }
}

template <class E>
void backward(const Experts& x, const ExpertsBackward& gradients, int64_t begin, int64_t end, void* scratch) {
  using T = typename E::Work;
  using V = Vector<T>;
  Shapes<E> s(x);
  T* down = static_cast<T*>(scratch);
  T* gate_up = down + s.strips(s.hidden) * s.kStrip * s.width;
  T* slopes = gate_up + s.strips(s.width) * s.kStrip * 2 * s.hidden;
  T* activation = slopes + kBlockRows * s.hidden_step();              // strips of [kBlockRows, kStrip]
  T* inputs = activation + kBlockRows * s.strips(s.hidden) * s.kStrip;  // and those of x
  V* dots = reinterpret_cast<V*>(inputs + kBlockRows * s.strips(s.width) * s.kStrip);
  T weights[kBlockRows];
  for (int64_t expert = begin; expert < end; ++expert) {
    T* dgate_up = static_cast<T*>(gradients.dgate_up) + expert * 2 * s.hidden * s.width;
    T* ddown = static_cast<T*>(gradients.ddown) + expert * s.width * s.hidden;
    int64_t start = s.start(expert), last = x.ends[expert];
    if (start == last) {
      __builtin_memset(dgate_up, 0, 2 * s.hidden * s.width * sizeof(T));
      __builtin_memset(ddown, 0, s.width * s.hidden * sizeof(T));
      continue;
    }
    pack_strips<E>(s.down(expert), s.width, s.hidden, s.hidden, 1, down);
    pack_strips<E>(s.gate_up(expert), 2 * s.hidden, s.width, s.width, 1, gate_up);
    for (int64_t block = start; block < last; block += kBlockRows) {
      int64_t rows = last - block < kBlockRows ? last - block : kBlockRows;
      const T* arriving = static_cast<const T*>(gradients.arriving) + block * s.width;
      s.read_weights(block, rows, weights);
      for (int64_t i = 0; i < rows; ++i) dots[i] = V{};
      for (int64_t column = 0, strip = 0; column < s.hidden; column += s.kStrip, ++strip) {
        each_tile(rows, kTileRows, [&](int64_t row, int64_t count) {
          int64_t columns = s.hidden - column < s.kStrip ? s.hidden - column : s.kStrip;
          const T* first = s.first(block + row) + column;
          fetch<0>(first, count, 2 * s.hidden * sizeof(T), columns * sizeof(T));
          fetch<0>(first + s.hidden, count, 2 * s.hidden * sizeof(T), columns * sizeof(T));
          with_count<kTileRows>(count, [&](auto known) {
            auto turn = [&](auto registers) {
              V sums[known.value][registers.value] = {};
              add_products<E>(arriving + row * s.width, s.width, 1, down + strip * s.width * s.kStrip, s.width, sums);
              turn_back<E>(s, block + row, weights + row, sums, column, activation + (strip * kBlockRows + row) * s.kStrip, slopes + row * s.hidden_step(),
                           dots + row);
            };
            columns > s.kHalf ? turn(Count<kTileColumns>()) : turn(Count<kTileColumns / 2>());
          });
        });
      }
      if (gradients.dw != nullptr) {
        for (int64_t i = 0; i < rows; ++i) static_cast<T*>(gradients.dw)[block + i] = total<T>(dots[i]);
      }
      multiply<E>(slopes, s.hidden_step(), 1, gate_up, 2 * s.hidden, static_cast<T*>(gradients.dx) + block * s.width, s.width, rows, s.width, false);
      pack_strips<E>(s.rows(block), rows, s.width, s.width, 1, inputs);
      multiply<E>(slopes, 1, s.hidden_step(), inputs, rows, dgate_up, s.width, 2 * s.hidden, s.width, block > start);
      for (int64_t column = 0, strip = 0; column < s.hidden; column += s.kStrip, ++strip) {
        each_tile(s.width, tile_rows<E>(s.hidden - column), [&](int64_t row, int64_t count) {
          tile_of<E, E>(count, arriving + row, 1, s.width, activation + strip * kBlockRows * s.kStrip, rows, ddown + row * s.hidden + column, s.hidden, s.hidden - column,
                        block > start);
        });
      }
    }
  }
}

template <class Act>
inline void with_type(Type type, Act act) {
  type == Type::Float64 ? act(Double()) : act(Single());
}

}  // namespace

int64_t experts_scratch(const Experts& x) {
  int64_t bytes = 0;
  with_type(x.type, [&](auto e) { bytes = Shapes<decltype(e)>(x).elements() * static_cast<int64_t>(sizeof(Unit<decltype(e)>)); });
  return bytes;
}

void experts_forward(const Experts& x, void* y, int64_t begin, int64_t end, void* scratch) {
  with_type(x.type, [&](auto e) { forward<decltype(e)>(x, y, begin, end, scratch); });
}

void experts_backward(const Experts& x, const ExpertsBackward& gradients, int64_t begin, int64_t end, void* scratch) {
  with_type(x.type, [&](auto e) { backward<decltype(e)>(x, gradients, begin, end, scratch); });
}

}  // namespace MOE_ISA
}  // namespace moe

// Two passes over a row while it is in the first cache: its sum, then its result. With n = x * inverse and g = dy * weight,
// dx = inverse * (g - n * mean(g * n)) and dweight = sum over rows of dy * n.
#include "kernels/rms_norm.h"

#include "kernels/rows_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

// Sixteen columns at a time, with a constant length that becomes wide registers; then the rest.
struct Whole {
  constexpr int count() const { return kLanes; }
};
struct Rest {
  int length;
  int count() const { return length; }
};

template <class Act>
inline void by_lanes(int64_t width, Act act) {
  int64_t column = 0;
  for (; column + kLanes <= width; column += kLanes) {
    act(column, Whole());
  }
  if (column < width) {
    act(column, Rest{static_cast<int>(width - column)});
  }
}

template <class E, bool kResidual>
void forward_rows(const RmsNormForward& x, int64_t begin, int64_t end) {
  using S = typename E::Stored;
  using T = typename E::Work;
  const T* __restrict weight = static_cast<const T*>(x.weight);
  for (int64_t row = begin; row < end; ++row) {
    int64_t at = row * x.width;
    const S* __restrict from = static_cast<const S*>(x.x) + at;
    const S* __restrict change = kResidual ? static_cast<const S*>(x.change) + at : nullptr;
    S* __restrict sum = kResidual ? static_cast<S*>(x.sum) + at : nullptr;
    S* __restrict y = static_cast<S*>(x.y) + at;
    LaneSums<T> squares;
    by_lanes(x.width, [&](int64_t column, auto lanes) {
      T values[kLanes];
      for (int i = 0; i < lanes.count(); ++i) values[i] = E::load(from + column + i);
      if constexpr (kResidual) {
        S rounded[kLanes];
        for (int i = 0; i < lanes.count(); ++i) values[i] += E::load(change + column + i);
        for (int i = 0; i < lanes.count(); ++i) E::store(rounded + i, values[i]);
        for (int i = 0; i < lanes.count(); ++i) sum[column + i] = rounded[i];
        for (int i = 0; i < lanes.count(); ++i) values[i] = E::load(rounded + i);
      }
      for (int i = 0; i < lanes.count(); ++i) squares.lanes[i] += values[i] * values[i];
    });
    T inverse = static_cast<T>(1 / __builtin_sqrt(static_cast<double>(squares.total()) / x.width + x.epsilon));
    static_cast<T*>(x.inverse)[row] = inverse;
    const S* __restrict normed = kResidual ? sum : from;
#pragma GCC ivdep
    for (int64_t i = 0; i < x.width; ++i) {
      E::store(y + i, E::load(normed + i) * inverse * weight[i]);
    }
  }
}

template <class E, bool kOfWeight>
void backward_row(const RmsNormBackward& x, int64_t row, typename E::Work* __restrict dweight) {
  using S = typename E::Stored;
  using T = typename E::Work;
  int64_t at = row * x.width;
  const S* __restrict dy = static_cast<const S*>(x.dy) + at;
  const S* __restrict from = static_cast<const S*>(x.x) + at;
  const T* __restrict weight = static_cast<const T*>(x.weight);
  T inverse = static_cast<const T*>(x.inverse)[row];
  LaneSums<T> dot;
  by_lanes(x.width, [&](int64_t column, auto lanes) {
    T products[kLanes];
    for (int i = 0; i < lanes.count(); ++i) products[i] = E::load(dy + column + i) * E::load(from + column + i);
    for (int i = 0; i < lanes.count(); ++i) dot.lanes[i] += products[i] * weight[column + i];
    if constexpr (kOfWeight) {
      for (int i = 0; i < lanes.count(); ++i) dweight[column + i] += products[i] * inverse;
    }
  });
  if (x.dx == nullptr) {
    return;
  }
  S* __restrict dx = static_cast<S*>(x.dx) + at;
  T pull = dot.total() * inverse * inverse * inverse / static_cast<T>(x.width);
  if (x.dsum != nullptr) {
    const S* __restrict dsum = static_cast<const S*>(x.dsum) + at;
#pragma GCC ivdep
    for (int64_t i = 0; i < x.width; ++i) {
      E::store(dx + i, E::load(dsum + i) + (E::load(dy + i) * weight[i] * inverse - E::load(from + i) * pull));
    }
  } else {
#pragma GCC ivdep
    for (int64_t i = 0; i < x.width; ++i) {
      E::store(dx + i, E::load(dy + i) * weight[i] * inverse - E::load(from + i) * pull);
    }
  }
}

template <class E>
void backward_blocks(const RmsNormBackward& x, int64_t begin, int64_t end) {
  using T = typename E::Work;
  int64_t share = rms_norm_block_rows(x.rows);
  for (int64_t block = begin; block < end; ++block) {
    T* dweight = x.dweight == nullptr ? nullptr : static_cast<T*>(x.partials) + block * x.width;
    if (dweight != nullptr) {
      for (int64_t i = 0; i < x.width; ++i) {
        dweight[i] = 0;
      }
    }
    int64_t last = (block + 1) * share < x.rows ? (block + 1) * share : x.rows;
    for (int64_t row = block * share; row < last; ++row) {
      dweight == nullptr ? backward_row<E, false>(x, row, dweight) : backward_row<E, true>(x, row, dweight);
    }
  }
}

template <class E>
void join_blocks(const RmsNormBackward& x, int64_t begin, int64_t end) {
  using T = typename E::Work;
  T* __restrict dweight = static_cast<T*>(x.dweight);
  for (int64_t i = begin; i < end; ++i) {
    dweight[i] = 0;
  }
  for (int64_t block = 0; block < rms_norm_blocks(x.rows); ++block) {
    const T* __restrict partial = static_cast<const T*>(x.partials) + block * x.width;
    for (int64_t i = begin; i < end; ++i) {
      dweight[i] += partial[i];
    }
  }
}

}  // namespace

void rms_norm_forward(const RmsNormForward& x, int64_t begin, int64_t end) {
  with_elements(x.type, [&](auto e) {
    using E = decltype(e);
    x.change == nullptr ? forward_rows<E, false>(x, begin, end) : forward_rows<E, true>(x, begin, end);
  });
}

void rms_norm_backward(const RmsNormBackward& x, int64_t begin, int64_t end) {
  with_elements(x.type, [&](auto e) { backward_blocks<decltype(e)>(x, begin, end); });
}

void rms_norm_join_blocks(const RmsNormBackward& x, int64_t begin, int64_t end) {
  with_elements(x.type, [&](auto e) { join_blocks<decltype(e)>(x, begin, end); });
}

}  // namespace MOE_ISA
}  // namespace moe

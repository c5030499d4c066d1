// Three passes over a row in the first cache: its maximum, the exponentials and their sum, the gradient. What is not rounded where it is
// stored keeps the exponentials in the row for the third; bfloat16 works them again.
#include "kernels/linear_cross_entropy.h"

#include "kernels/vector_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

constexpr int64_t kPiece = 256;

// A NaN is passed over; it shows in the sum of the exponentials.
template <class E>
inline typename E::Work maximum(const typename E::Stored* __restrict row, int64_t count) {
  using T = typename E::Work;
  T values[kWide<T>];
  Vector<T> lanes = Vector<T>{} - static_cast<T>(__builtin_inf());
  int64_t i = 0;
  for (; i + kWide<T> <= count; i += kWide<T>) {
    for (int lane = 0; lane < kWide<T>; ++lane) values[lane] = E::load(row + i + lane);
    lanes = larger<T>(load(values), lanes);
  }
  T most = lanes[0];
  for (int lane = 1; lane < kWide<T>; ++lane) most = lanes[lane] > most ? lanes[lane] : most;
  for (; i < count; ++i) {
    T value = E::load(row + i);
    most = value > most ? value : most;
  }
  return most;
}

// A piece has been read before the gradient is written over it.
template <class E>
inline void write_gradient(typename E::Stored* row, int64_t count, typename E::Work most, typename E::Work factor) {
  using T = typename E::Work;
  for (int64_t start = 0; start < count; start += kPiece) {
    int64_t length = count - start < kPiece ? count - start : kPiece;
    T piece[kPiece];
#pragma GCC ivdep
    for (int64_t i = 0; i < length; ++i) piece[i] = exponential(E::load(row + start + i) - most) * factor;
#pragma GCC ivdep
    for (int64_t i = 0; i < length; ++i) E::store(row + start + i, piece[i]);
  }
}

template <typename T>
inline void scale_row(T* __restrict row, int64_t count, T factor) {
#pragma GCC ivdep
  for (int64_t i = 0; i < count; ++i) row[i] *= factor;
}

template <class E>
void rows(const CrossEntropy& x, int64_t begin, int64_t end) {
  using S = typename E::Stored;
  using T = typename E::Work;
  constexpr bool kKept = sizeof(S) == sizeof(T);
  for (int64_t r = begin; r < end; ++r) {
    S* row = static_cast<S*>(x.logits) + r * x.vocabulary;
    int64_t target = x.targets[r];
    if (target == kNotCounted) {
      static_cast<T*>(x.losses)[r] = 0;
      if (x.gradient) {
        __builtin_memset(row, 0, x.vocabulary * sizeof(S));
      }
      continue;
    }
    T most = maximum<E>(row, x.vocabulary), at_target = E::load(row + target) - most;
    LaneSums<T> sums;
    for (int64_t start = 0; start < x.vocabulary; start += kPiece) {
      int64_t length = x.vocabulary - start < kPiece ? x.vocabulary - start : kPiece;
      T piece[kPiece];
#pragma GCC ivdep
      for (int64_t i = 0; i < length; ++i) piece[i] = exponential(E::load(row + start + i) - most);
      sums.add(piece, length);
      if (kKept && x.gradient) {
        __builtin_memcpy(row + start, piece, length * sizeof(T));
      }
    }
    T sum = sums.total();
    static_cast<T*>(x.losses)[r] = logarithm(sum) - at_target;
    if (x.gradient) {
      if constexpr (kKept) {
        scale_row(row, x.vocabulary, 1 / sum);
      } else {
        write_gradient<E>(row, x.vocabulary, most, 1 / sum);
      }
      E::store(row + target, exponential(at_target) / sum - 1);
    }
  }
}

template <class E, class N>
void scaled(const Scale& x, int64_t begin, int64_t end) {
  auto from = static_cast<const typename E::Stored*>(x.from);
  auto to = static_cast<typename N::Stored*>(x.to);
  auto factor = *static_cast<const typename E::Work*>(x.factor);
#pragma GCC ivdep
  for (int64_t i = begin; i < end; ++i) N::store(to + i, E::load(from + i) * factor);
}

// Calls act(E(), N()) with the element kinds of a type and of what is written.
template <class Act>
inline void with_both(Type type, Type narrow, Act act) {
  with_elements(type, [&](auto e) {
    if constexpr (sizeof(typename decltype(e)::Work) == sizeof(float)) {
      if (narrow == Type::BFloat16) {
        return act(e, Brain());
      }
    }
    act(e, e);
  });
}

}  // namespace

void cross_entropy(const CrossEntropy& x, int64_t begin, int64_t end) {
  with_elements(x.type, [&](auto e) { rows<decltype(e)>(x, begin, end); });
}

void scale(const Scale& x, int64_t begin, int64_t end) {
  with_both(x.from_type, x.to_type, [&](auto e, auto n) { scaled<decltype(e), decltype(n)>(x, begin, end); });
}

}  // namespace MOE_ISA
}  // namespace moe

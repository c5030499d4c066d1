// A head at a time; the loops over its pairs are what the compiler makes wide.
#include "kernels/rotary.h"

#include "kernels/rows_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

// direction: 1 turns forward, -1 back.
template <class E>
inline void turn(const typename E::Stored* __restrict from, typename E::Stored* __restrict to, const typename E::Work* __restrict cosine,
                 const typename E::Work* __restrict sine, int64_t pairs, typename E::Work direction) {
#pragma GCC ivdep
  for (int64_t i = 0; i < pairs; ++i) {
    auto x = E::load(from + i);
    auto y = E::load(from + pairs + i);
    auto s = sine[i] * direction;
    E::store(to + i, x * cosine[i] - y * s);
    E::store(to + pairs + i, y * cosine[i] + x * s);
  }
}

template <class E, bool kForward>
void tokens(const Rotary& x, int64_t begin, int64_t end) {
  using S = typename E::Stored;
  using T = typename E::Work;
  int64_t pairs = x.head_width / 2, all = x.heads + 2 * x.key_value_heads;
  for (int64_t token = begin; token < end; ++token) {
    const T* cosine = static_cast<const T*>(x.cosine) + token % x.length * pairs;
    const T* sine = static_cast<const T*>(x.sine) + token % x.length * pairs;
    S* packed = static_cast<S*>(x.packed) + token * all * x.head_width;
    auto one = [&](S* head, S* apart, bool turned) {
      S* from = kForward ? head : apart;
      S* to = kForward ? apart : head;
      if (turned) {
        turn<E>(from, to, cosine, sine, pairs, kForward ? T(1) : T(-1));
      } else {
        __builtin_memcpy(to, from, x.head_width * sizeof(S));
      }
    };
    for (int64_t head = 0; head < x.heads; ++head) {
      one(packed + head * x.head_width, static_cast<S*>(x.query) + (token * x.heads + head) * x.head_width, true);
    }
    for (int64_t head = 0; head < x.key_value_heads; ++head) {
      int64_t at = (token * x.key_value_heads + head) * x.head_width;
      one(packed + (x.heads + head) * x.head_width, static_cast<S*>(x.key) + at, true);
      one(packed + (x.heads + x.key_value_heads + head) * x.head_width, static_cast<S*>(x.value) + at, false);
    }
  }
}

}  // namespace

void rotary_forward(const Rotary& x, int64_t begin, int64_t end) {
  with_elements(x.type, [&](auto e) { tokens<decltype(e), true>(x, begin, end); });
}

void rotary_backward(const Rotary& x, int64_t begin, int64_t end) {
  with_elements(x.type, [&](auto e) { tokens<decltype(e), false>(x, begin, end); });
}

}  // namespace MOE_ISA
}  // namespace moe

// A row is worked in pieces that stay in the first cache: with s = sigmoid(gate), da = w * (arriving gradient), dup = da * gate * s and
// dgate = da * up * s * (1 + gate * (1 - s)).
#include "kernels/swiglu.h"

#include "kernels/rows_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

constexpr int64_t kPiece = 256;

template <class E>
void forward_rows(const SwiGluForward& x, int64_t begin, int64_t end) {
  using S = typename E::Stored;
  using T = typename E::Work;
  auto weights = static_cast<const T*>(x.w);
  for (int64_t row = begin; row < end; ++row) {
    const S* __restrict gate = static_cast<const S*>(x.h) + row * 2 * x.width;
    const S* __restrict up = gate + x.width;
    S* __restrict a = static_cast<S*>(x.a) + row * x.width;
    T weight = weights == nullptr ? T(1) : weights[row];
#pragma GCC ivdep
    for (int64_t i = 0; i < x.width; ++i) {
      T g = E::load(gate + i);
      E::store(a + i, g * sigmoid(g) * E::load(up + i) * weight);
    }
  }
}

template <class E>
void backward_rows(const SwiGluBackward& x, int64_t begin, int64_t end) {
  using S = typename E::Stored;
  using T = typename E::Work;
  auto weights = static_cast<const T*>(x.w);
  for (int64_t row = begin; row < end; ++row) {
    const S* gate = static_cast<const S*>(x.h) + row * 2 * x.width;
    const S* arriving = static_cast<const S*>(x.da) + row * x.width;
    S* activation = static_cast<S*>(x.a) + row * x.width;
    S* leaving = static_cast<S*>(x.dh) + row * 2 * x.width;
    T weight = weights == nullptr ? T(1) : weights[row];
    LaneSums<T> dot;
    for (int64_t start = 0; start < x.width; start += kPiece) {
      int64_t count = x.width - start < kPiece ? x.width - start : kPiece;
      const S* __restrict g0 = gate + start;
      const S* __restrict u0 = g0 + x.width;
      const S* __restrict d0 = arriving + start;
      S* __restrict a0 = activation + start;
      S* __restrict dg0 = leaving + start;
      S* __restrict du0 = dg0 + x.width;
      T products[kPiece];
#pragma GCC ivdep
      for (int64_t i = 0; i < count; ++i) {
        T g = E::load(g0 + i);
        T u = E::load(u0 + i);
        T d = E::load(d0 + i);
        T s = sigmoid(g);
        T silu = g * s;
        T plain = silu * u;
        T weighted = d * weight;
        products[i] = d * plain;
        E::store(a0 + i, plain * weight);
        E::store(du0 + i, weighted * silu);
        E::store(dg0 + i, weighted * u * (s + silu * (T(1) - s)));
      }
      dot.add(products, count);
    }
    if (x.dw != nullptr) {
      static_cast<T*>(x.dw)[row] = dot.total();
    }
  }
}

}  // namespace

void swiglu_forward(const SwiGluForward& x, int64_t begin, int64_t end) {
  with_elements(x.type, [&](auto e) { forward_rows<decltype(e)>(x, begin, end); });
}

void swiglu_backward(const SwiGluBackward& x, int64_t begin, int64_t end) {
  with_elements(x.type, [&](auto e) { backward_rows<decltype(e)>(x, begin, end); });
}

}  // namespace MOE_ISA
}  // namespace moe

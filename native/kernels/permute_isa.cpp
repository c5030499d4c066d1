// Ordered sums of rows, a piece of a row at a time, so that the sum stays in registers or the first cache while its rows stream by.
#include "kernels/permute.h"

#include "kernels/rows_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

constexpr int64_t kPiece = 256;

template <class E>
void sums(const SumRows& x, int64_t begin, int64_t end) {
  using S = typename E::Stored;
  using T = typename E::Work;
  for (int64_t token = begin; token < end; ++token) {
    const int32_t* places = x.places + token * x.slots;
    for (int64_t start = 0; start < x.width; start += kPiece) {
      int64_t count = x.width - start < kPiece ? x.width - start : kPiece;
      T sum[kPiece];
      bool first = true;
      auto take = [&](const S* __restrict row) {
        if (first) {
          for (int64_t i = 0; i < count; ++i) sum[i] = E::load(row + i);
        } else {
          for (int64_t i = 0; i < count; ++i) sum[i] += E::load(row + i);
        }
        first = false;
      };
      for (int64_t slot = 0; slot < x.slots; ++slot) {
        if (places[slot] >= 0) {
          take(static_cast<const S*>(x.from) + places[slot] * x.from_stride + start);
        }
      }
      if (x.added != nullptr) {
        take(static_cast<const S*>(x.added) + token * x.width + start);
      }
      S* __restrict to = static_cast<S*>(x.to) + token * x.to_stride + start;
      for (int64_t i = 0; i < count; ++i) {
        E::store(to + i, first ? T(0) : sum[i]);
      }
    }
  }
}

}  // namespace

void sum_rows(const SumRows& x, int64_t begin, int64_t end) {
  with_elements(x.type, [&](auto e) { sums<decltype(e)>(x, begin, end); });
}

}  // namespace MOE_ISA
}  // namespace moe

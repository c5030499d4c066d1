// Sums of the rows that arrived for a token, a piece of a row at a time, so that the sum stays in registers or the first cache while its rows stream by.
#include "kernels/embedding.h"

#include <cstring>

#include "kernels/rows_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

constexpr int64_t kPiece = 256;

template <class E>
void sums(const EmbeddingGradient& x, int64_t begin, int64_t end) {
  using S = typename E::Stored;
  using T = typename E::Work;
  for (int64_t token = begin; token < end; ++token) {
    S* row = static_cast<S*>(x.gradient) + token * x.width;
    int32_t first = token == 0 ? 0 : x.ends[token - 1], last = x.ends[token];
    if (first == last) {
      std::memset(row, 0, x.width * sizeof(S));
      continue;
    }
    for (int64_t start = 0; start < x.width; start += kPiece) {
      int64_t count = x.width - start < kPiece ? x.width - start : kPiece;
      auto arrived = [&](int32_t k) { return static_cast<const S*>(x.arriving) + x.order[k] * x.width + start; };
      T sum[kPiece];
      const S* __restrict from = arrived(first);
      for (int64_t i = 0; i < count; ++i) {
        sum[i] = E::load(from + i);
      }
      for (int32_t k = first + 1; k < last; ++k) {
        const S* __restrict next = arrived(k);
        for (int64_t i = 0; i < count; ++i) {
          sum[i] += E::load(next + i);
        }
      }
      S* __restrict to = row + start;
      for (int64_t i = 0; i < count; ++i) {
        E::store(to + i, sum[i]);
      }
    }
  }
}

}  // namespace

void embedding_gradient(const EmbeddingGradient& x, int64_t begin, int64_t end) {
  with_elements(x.type, [&](auto e) { sums<decltype(e)>(x, begin, end); });
}

}  // namespace MOE_ISA
}  // namespace moe

// The gradient of an embedding's table: each row is the sum of the rows that arrived for its token, in the order of the tokens' places, worked in the work type
// and rounded once; a token that does not occur has zeros. Shapes: T places, V tokens, D width. All without gaps.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

struct EmbeddingGradient {
  Type type;
  const void* arriving;   // [T, D]
  const int64_t* tokens;  // [T] in [0, V); on a device, another one is left out
  void* gradient;         // [V, D]
  int64_t places;
  int64_t vocabulary;
  int64_t width;
  // On the host: places by token, in their own order within one; ends: [V], inclusive sums of the tokens' places.
  const int32_t* order;
  const int32_t* ends;
};

// Rows [begin, end) of the table.
namespace baseline {
void embedding_gradient(const EmbeddingGradient& x, int64_t begin, int64_t end);
}
namespace avx2 {
void embedding_gradient(const EmbeddingGradient& x, int64_t begin, int64_t end);
}
namespace avx512 {
void embedding_gradient(const EmbeddingGradient& x, int64_t begin, int64_t end);
}

namespace cuda {
// Bytes of workspace, at a multiple of 16.
int64_t embedding_gradient_workspace(const EmbeddingGradient& x);
void embedding_gradient(const EmbeddingGradient& x, void* workspace, void* stream);
}  // namespace cuda

}  // namespace moe

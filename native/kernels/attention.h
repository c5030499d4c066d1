// Causal attention in blocks on the fused projection, rotary embedding inside: Dao et al. 2022, https://arxiv.org/abs/2205.14135, in host
// memory. (On a GPU libtorch's own attention is used behind kernels/rotary.h.)
// Shapes: B sequences of S tokens, H query heads in K groups that share a key and value head, h numbers a head; projection
// [B S, (H + 2K) h]: queries, keys, values; output [B S, H h]; log_sums [B, H, S]: logarithm of the sum of the exponentials of a query's
// scores; cosine and sine [positions, h / 2]. The last three are of the work type. All are contiguous.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

struct Attention {
  Type type;
  const void* projection;
  const void* cosine;
  const void* sine;
  void* output;    // backward reads it
  void* log_sums;  // backward reads it
  const void* output_gradient;  // null in forward
  void* projection_gradient;    // null in forward
  int64_t sequences;
  int64_t length;
  int64_t heads;
  int64_t key_value_heads;
  int64_t head_width;
};

// A unit of work is one key and value head of one sequence, with the query heads that share it: [begin, end) of B K.
// scratch: attention_scratch bytes, at a multiple of 64, of the thread alone.
#define MOE_ATTENTION                                                                      \
  int64_t attention_scratch(const Attention& x);                                           \
  void attention_forward(const Attention& x, int64_t begin, int64_t end, void* scratch);   \
  void attention_backward(const Attention& x, int64_t begin, int64_t end, void* scratch);

namespace baseline {
MOE_ATTENTION
}
namespace avx2 {
MOE_ATTENTION
}
namespace avx512 {
MOE_ATTENTION
}
#undef MOE_ATTENTION

}  // namespace moe

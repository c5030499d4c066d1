// Rotary position embedding from the fused projection to heads, and the gradient's way back: at position p the pair (x[i], x[i + h/2]) of
// a query or key head turns by the angle whose cosine and sine stand at [p, i]. Shapes: B sequences of S tokens, H query and K key and
// value heads of width h; packed [B S, (H + 2K) h]: queries, keys, values; query [B, S, H, h], key and value [B, S, K, h]; cosine and sine
// [positions, h / 2] of the work type. All are contiguous.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

// Forward reads `packed` and writes the others; backward reads the others' gradients and writes `packed`'s.
struct Rotary {
  Type type;
  void* packed;
  void* query;
  void* key;
  void* value;
  const void* cosine;
  const void* sine;
  int64_t tokens;  // B S
  int64_t length;  // S
  int64_t heads;
  int64_t key_value_heads;
  int64_t head_width;
};

// Tokens [begin, end).
#define MOE_ROTARY                                                   \
  void rotary_forward(const Rotary& x, int64_t begin, int64_t end);  \
  void rotary_backward(const Rotary& x, int64_t begin, int64_t end);

namespace baseline {
MOE_ROTARY
}
namespace avx2 {
MOE_ROTARY
}
namespace avx512 {
MOE_ROTARY
}
#undef MOE_ROTARY

namespace cuda {
void rotary_forward(const Rotary& x, void* stream);
void rotary_backward(const Rotary& x, void* stream);
}  // namespace cuda

}  // namespace moe

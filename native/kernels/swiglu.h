// silu(gate) * up * w: the gated activation of Shazeer 2020, https://arxiv.org/abs/2002.05202, times an optional weight a row.
// Shapes: h [R, 2F], the gate in its first F columns and up in the others; w [R]; a [R, F]. w and its gradient are of the work type:
// float for float32 and bfloat16 elements, double for float64. All are contiguous.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

struct SwiGluForward {
  Type type;
  const void* h;
  const void* w;  // null: 1
  void* a;
  int64_t rows;
  int64_t width;  // F
};

struct SwiGluBackward {
  Type type;
  const void* h;
  const void* w;   // null: 1
  const void* da;  // [R, F]
  void* a;         // [R, F]: the activation once more, weight included
  void* dh;        // [R, 2F]
  void* dw;        // [R]; null where there is no w
  int64_t rows;
  int64_t width;
};

// Rows [begin, end).
#define MOE_SWIGLU_ROWS                                                     \
  void swiglu_forward(const SwiGluForward& x, int64_t begin, int64_t end);  \
  void swiglu_backward(const SwiGluBackward& x, int64_t begin, int64_t end);

namespace baseline {
MOE_SWIGLU_ROWS
}
namespace avx2 {
MOE_SWIGLU_ROWS
}
namespace avx512 {
MOE_SWIGLU_ROWS
}
#undef MOE_SWIGLU_ROWS

namespace cuda {
void swiglu_forward(const SwiGluForward& x, void* stream);
void swiglu_backward(const SwiGluBackward& x, void* stream);
}  // namespace cuda

}  // namespace moe

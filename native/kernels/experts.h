// The SwiGLUs of experts over rows sorted by expert, whole, on the host: down(w * silu(gate(x)) * up(x)), a block of rows at a time, so that what stands between the
// two products stays in the second cache. Reference and the form for everything else: three products and kernels/swiglu.h, src/Models/SwiGluRows.cs.
// That form's bits are others: its exponential (rows_isa.h) is the same on every instruction set, where this one's (vector_isa.h) is as its fused products and sums make it.
// Which of them runs depends on the number of threads; both keep to a few units of the last place.
// Shapes: x and y [R, D], gate_up [E, 2F, D] with the gates first, down [E, D, F], w [R], hidden [R, 2F], ends [E] int32: where an expert's rows end. All are
// contiguous and of one type, float32 or float64; D and F are multiples of a cache line.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

struct Experts {
  Type type;
  const void* x;
  const void* gate_up;
  const void* down;
  const void* w;  // null: 1
  const int32_t* ends;
  void* hidden;  // written by forward, which wants it at the beginning of a cache line
  int64_t experts;
  int64_t width;         // D
  int64_t hidden_width;  // F
};

struct ExpertsBackward {
  const void* arriving;  // [R, D]: gradient of y
  void* dx;
  void* dw;  // [R]; null where there is no w
  void* dgate_up;
  void* ddown;
};

// Experts [begin, end). scratch: experts_scratch bytes, at a multiple of 64, of the thread alone.
#define MOE_EXPERTS                                                                                                              \
  int64_t experts_scratch(const Experts& x);                                                                                     \
  void experts_forward(const Experts& x, void* y, int64_t begin, int64_t end, void* scratch);                                    \
  void experts_backward(const Experts& x, const ExpertsBackward& gradients, int64_t begin, int64_t end, void* scratch);

namespace baseline {
MOE_EXPERTS
}
namespace avx2 {
MOE_EXPERTS
}
namespace avx512 {
MOE_EXPERTS
}
#undef MOE_EXPERTS

}  // namespace moe

// Rows brought to a root mean square of 1 and scaled by column, alone or behind a residual sum: Zhang and Sennrich 2019,
// https://arxiv.org/abs/1910.07467. Shapes: rows [R, D], weight [D], inverse [R] = 1 / root mean square. Weight, its gradient and
// inverse are of the work type: float for float32 and bfloat16 rows, double for float64. All are contiguous.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

// With `change`: sum = x + change, and the sum is what is normed.
struct RmsNormForward {
  Type type;
  const void* x;
  const void* change;  // null: x itself is normed
  const void* weight;
  void* sum;  // null where there is no change
  void* y;
  void* inverse;
  int64_t rows;
  int64_t width;
  double epsilon;
};

struct RmsNormBackward {
  Type type;
  const void* dy;
  const void* dsum;  // what arrives beside the norm's own gradient; null: nothing
  const void* x;     // what was normed
  const void* weight;
  const void* inverse;
  void* dx;        // null: not asked for
  void* dweight;   // [D]; null: not asked for
  void* partials;  // [rms_norm_blocks(rows), on a GPU rms_norm_partials, D] of the work type; null where dweight is
  int64_t rows;
  int64_t width;
};

// A weight's gradient is summed over blocks of rows, and the blocks' sums in their order: the same whoever works them.
inline int64_t rms_norm_block_rows(int64_t rows) {
  int64_t share = (rows + 255) / 256;
  return share < 64 ? 64 : share;
}
inline int64_t rms_norm_blocks(int64_t rows) { return (rows + rms_norm_block_rows(rows) - 1) / rms_norm_block_rows(rows); }

// Forward takes rows [begin, end), backward blocks of rows [begin, end), the last columns [begin, end) of the weight's gradient.
#define MOE_RMS_NORM                                                              \
  void rms_norm_forward(const RmsNormForward& x, int64_t begin, int64_t end);     \
  void rms_norm_backward(const RmsNormBackward& x, int64_t begin, int64_t end);   \
  void rms_norm_join_blocks(const RmsNormBackward& x, int64_t begin, int64_t end);

namespace baseline {
MOE_RMS_NORM
}
namespace avx2 {
MOE_RMS_NORM
}
namespace avx512 {
MOE_RMS_NORM
}
#undef MOE_RMS_NORM

namespace cuda {
// Rows of `partials` that backward needs.
int64_t rms_norm_partials(Type type, int64_t rows, int64_t width);
void rms_norm_forward(const RmsNormForward& x, void* stream);
void rms_norm_backward(const RmsNormBackward& x, void* stream);
}  // namespace cuda

}  // namespace moe

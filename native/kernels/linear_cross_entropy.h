// Cross-entropy of logits, row by row: the loss of each row's target, and in the logits' own place the gradient of the losses' sum.
// Shapes: logits [R, V], rows without gaps; targets [R], from 0 to V - 1 or -100 for a row that is not counted.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

constexpr int64_t kNotCounted = -100;

struct CrossEntropy {
  Type type;       // of the logits
  void* logits;    // where a gradient is asked for, it is written over them
  const int64_t* targets;
  void* losses;    // [R], of the work type
  bool gradient;
  int64_t rows;
  int64_t vocabulary;
};

// to[i] = from[i] * factor[0]; `to` may be `from`.
struct Scale {
  Type from_type;
  Type to_type;      // from_type, or bfloat16 beside float32
  Type factor_type;  // the work type
  const void* from;
  void* to;
  const void* factor;
  int64_t count;
};

// Rows, or elements, [begin, end).
#define MOE_CROSS_ENTROPY                                                \
  void cross_entropy(const CrossEntropy& x, int64_t begin, int64_t end); \
  void scale(const Scale& x, int64_t begin, int64_t end);

namespace baseline {
MOE_CROSS_ENTROPY
}
namespace avx2 {
MOE_CROSS_ENTROPY
}
namespace avx512 {
MOE_CROSS_ENTROPY
}
#undef MOE_CROSS_ENTROPY

namespace cuda {
void cross_entropy(const CrossEntropy& x, void* stream);
// sum[0] = the losses' sum, added in one order.
void sum_losses(Type type, const void* losses, int64_t count, void* sum, void* stream);
void scale(const Scale& x, void* stream);
}  // namespace cuda

}  // namespace moe

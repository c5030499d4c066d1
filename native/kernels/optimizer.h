// One pass of a rule over a part of one tensor, compiled once for each instruction set.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

// The managed side's UpdateRule, in its order.
enum class Rule : int32_t { Adam, AdamAmsgrad, ScaledSum, Momentum, AdaBelief, AdaBeliefAmsgrad, LambDirection, MuonMomentum };

constexpr int kMostSlots = 5;

// step_range: slots are addresses of the first elements, float or double as `wide` says; elements [begin, end) are stepped.
// sum_squares: of elements [begin, end), in double and in an order of its own, the same on every processor.
#define MOE_OPTIMIZER                                                                                                           \
  void step_range(Rule rule, bool wide, void* const* slots, const double* coefficients, int64_t begin, int64_t end);            \
  double sum_squares(bool wide, const void* values, int64_t begin, int64_t end);

namespace baseline {
MOE_OPTIMIZER
}
namespace avx2 {
MOE_OPTIMIZER
}
namespace avx512 {
MOE_OPTIMIZER
}
#undef MOE_OPTIMIZER

// The list of tensors as the CUDA form reads it.
struct StepEntry {
  void* slots[kMostSlots];
  Type types[kMostSlots];
  void* copy;         // bfloat16, gets the new value rounded; null for none
  int64_t size;       // elements
  int64_t aligned;    // whether every address is a multiple of 16
};

// Elements that a block of threads steps.
constexpr int64_t kCudaChunk = 1 << 14;

namespace cuda {
// entries: [count]. starts: [count + 1], chunks of the tensors before, the last one all chunks. coefficients: [count, of the rule]. All on the device.
// wide: all slots are float64; else float32 or bfloat16, each tensor as it likes, worked in float32.
void step(Rule rule, bool wide, const StepEntry* entries, const int64_t* starts, const double* coefficients, int64_t count, int64_t chunks, void* stream);

// Where the parts of a tensor's sum of squares stand.
struct SquareRange {
  const double* first;
  int64_t count;
};

// partial: [chunks] and squares: [count], float64 on the device; sums of the squares of each entry's first slot, in a fixed order. An entry without chunks has its
// parts already. ranges: [count]; of the others those of its chunks in `partial`.
void sum_squares(const StepEntry* entries, const int64_t* starts, const SquareRange* ranges, int64_t count, int64_t chunks, double* partial, double* squares,
                 void* stream);
}  // namespace cuda

}  // namespace moe

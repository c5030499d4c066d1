// From a router's logits to the choice of k experts a token, their weights, and what balancing needs to know: one pass over the rows.
// Shapes: logits [T, E] float32 or float64 (the type of all floating-point results), bias [E] float32; T tokens in G segments of consecutive
// tokens, blocks of kRouterBlock tokens that no segment's end divides. Sums are taken in double, block by block and then in the order of the
// blocks, so that they depend neither on the number of threads nor on scheduling.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

constexpr int64_t kRouterBlock = 32;
constexpr double kRouterTiny = 1e-20;  // keeps a token whose sigmoid scores all underflow from dividing by 0

#ifdef __CUDACC__
#define MOE_BOTH __host__ __device__
#else
#define MOE_BOTH
#endif

struct RouterShape {
  Type type;
  int64_t segments;  // G
  int64_t tokens;    // of one segment
  int64_t experts;   // E
  int64_t slots;     // k
  bool sigmoid;      // scores; else softmax
  bool normalize;    // the chosen scores are divided by their sum
  double scale;      // of the weights

  MOE_BOTH int64_t blocks_a_segment() const { return (tokens + kRouterBlock - 1) / kRouterBlock; }
  MOE_BOTH int64_t blocks() const { return segments * blocks_a_segment(); }
};

struct RouterForward : RouterShape {
  const void* logits;
  const float* bias;
  int64_t* ids;            // [T, k], the best first; of equal ones the lower id
  void* weights;           // [T, k]
  void* chosen;            // [T, k]: scores of the chosen
  double* block_sums;      // [blocks, E]: shares
  double* block_squares;   // [blocks]: logsumexp^2
  int32_t* block_counts;   // [blocks, E]
  int64_t* counts;         // [G, E]
  void* sums;              // [G, E]
  void* squares;           // scalar
};

struct RouterBackward : RouterShape {
  const void* logits;
  const int64_t* ids;         // [T, k] as chosen
  const void* weight_grads;   // [T, k]; null for zeros
  const void* sum_grads;      // [G, E]; null for zeros
  const void* square_grad;    // scalar; null for zero
  void* logit_grads;          // [T, E]
};

#undef MOE_BOTH

// Blocks [begin, end); `scratch` has room for 2 E elements of the logits' type.
#define MOE_ROUTER_BLOCKS                                                                    \
  void router_forward(const RouterForward& x, int64_t begin, int64_t end, void* scratch);    \
  void router_backward(const RouterBackward& x, int64_t begin, int64_t end, void* scratch);

namespace baseline {
MOE_ROUTER_BLOCKS
}
namespace avx2 {
MOE_ROUTER_BLOCKS
}
namespace avx512 {
MOE_ROUTER_BLOCKS
}
#undef MOE_ROUTER_BLOCKS

namespace cuda {
void router_forward(const RouterForward& x, void* stream);
void router_backward(const RouterBackward& x, void* stream);
}  // namespace cuda

}  // namespace moe

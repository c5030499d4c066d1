// What travels between the ranks of one dispatch: a token's row once a rank, with the experts that it chose there and their weights beside it.
// Shapes: T tokens, k slots, E experts in ranks' shares of `local`, m = min(k, ranks), N rows that leave, n that arrive.
// A packed row: D elements; from `weights_at` on, k weights (float, or double beside float64 rows); from `ids_at` on, k int32 ids of the receiving
// rank's experts, `local` for none. Rows are a multiple of 16 bytes apart. On the way back of gradients the ids are left out.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

// Which ranks a token goes to.
struct PlanDispatch {
  const int64_t* ids;     // [T, k]; E means dropped
  int64_t tokens;
  int64_t slots;
  int64_t experts;
  int64_t ranks;
  int64_t* destinations;  // [T, m]: ranks, ascending, each once; `ranks` in the places that are left
  int64_t* sizes;         // [ranks, 2]: rows and choices for each rank
};

struct PackedLayout {
  int64_t row_bytes;   // D elements
  int64_t stride;      // bytes from row to row
  int64_t weights_at;  // bytes
  int64_t ids_at;      // bytes
  int64_t slots;       // k
  bool wide;           // weights are double
};

struct PackRows {
  PackedLayout layout;
  const void* tokens;  // [T, D]
  int64_t token_stride;         // bytes
  const void* weights;          // [T, k]
  const int64_t* ids;           // [T, k]
  const int64_t* destinations;  // [T, m]
  const int32_t* pairs;         // [N]: token * m + place among its destinations
  int64_t most;                 // m
  int64_t local;
  int64_t count;  // N
  void* packed;   // [N, stride]
};

// ids [n, k] int64 and weights [n, k] from packed rows.
struct UnpackChoices {
  PackedLayout layout;
  const void* packed;
  int64_t count;  // n
  int64_t* ids;
  void* weights;
};

// dweights [T, k] from the packed rows that came back: a choice's is the one of its rank among those of that rank, in their order.
struct CollectWeights {
  PackedLayout layout;
  const void* packed;
  const int64_t* ids;           // [T, k]
  const int64_t* destinations;  // [T, m]
  const int32_t* places;        // [T m]: row of a destination
  int64_t most;
  int64_t local;
  int64_t experts;
  int64_t tokens;
  void* weights;  // [T, k]
};

namespace cuda {
void plan_dispatch(const PlanDispatch& x, void* stream);
void pack_rows(const PackRows& x, void* stream);
void unpack_choices(const UnpackChoices& x, void* stream);
void collect_weights(const CollectWeights& x, void* stream);
}  // namespace cuda

}  // namespace moe

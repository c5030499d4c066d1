// Rows by lists of places. A pair is token * k + slot; sorting pairs by expert gives the rows' order. Out, a token's row is read once and written to each of
// its places; back, a token gathers them, so that no two threads add to one place and the order of every sum is fixed.
// Shapes: T tokens, k slots, E experts, N pairs that have an expert.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

struct SortPairs {
  const int64_t* ids;  // [T k]; E (on a device, anything that is no expert) means dropped
  int64_t count;       // T k, less than 2^31
  int64_t experts;
  int32_t* pairs;    // [T k]: those of expert 0 first, in their own order; the dropped ones last
  int32_t* places;   // [T k]: where a pair stands among `pairs`; -1 where it was dropped
  int64_t* counts;   // [E]
  int32_t* offsets;  // [E]: inclusive sums of counts
};

// On the host, stable. Returns false, with the first id that is neither an expert nor E.
bool sort_pairs(const SortPairs& x, int64_t* unknown);

// to[places[t * slots + slot]] = from[t], rows of row_bytes, negative places left out; rows that no pair has, from *taken on, become zeros.
struct SpreadRows {
  const void* from;
  int64_t from_stride;  // bytes
  const int32_t* places;
  int64_t slots;
  int64_t count;         // T
  const int32_t* taken;  // rows that have a pair
  void* to;
  int64_t to_stride;  // bytes
  int64_t rows;       // of `to`
  int64_t row_bytes;
};

// to[t] = added[t] + sum over slots, ascending, of from[places[t * slots + slot]], negative places left out; worked in the work type.
struct SumRows {
  Type type;
  const void* from;
  int64_t from_stride;  // elements
  const int32_t* places;
  int64_t slots;
  const void* added;  // [T, D] without gaps; null for none
  void* to;
  int64_t to_stride;  // elements
  int64_t count;      // T
  int64_t width;      // D
};

// to[i] = from[places[i]], 0 at negative places; float or double. to: [count / group] groups, to_stride bytes apart.
struct PickNumbers {
  Type type;
  const void* from;
  const int32_t* places;
  void* to;
  int64_t count;
  int64_t group;
  int64_t to_stride;  // bytes
};

template <typename T>
void pick_numbers(const PickNumbers& x) {
  for (int64_t i = 0; i < x.count; ++i) {
    auto to = reinterpret_cast<T*>(static_cast<char*>(x.to) + i / x.group * x.to_stride) + i % x.group;
    *to = x.places[i] < 0 ? T(0) : static_cast<const T*>(x.from)[x.places[i]];
  }
}

// Tokens [begin, end).
namespace baseline {
void sum_rows(const SumRows& x, int64_t begin, int64_t end);
}
namespace avx2 {
void sum_rows(const SumRows& x, int64_t begin, int64_t end);
}
namespace avx512 {
void sum_rows(const SumRows& x, int64_t begin, int64_t end);
}

namespace cuda {
// 32-bit words of workspace that sort_pairs needs.
int64_t sort_pairs_workspace(int64_t count, int64_t experts);
void sort_pairs(const SortPairs& x, int32_t* workspace, void* stream);
void spread_rows(const SpreadRows& x, void* stream);
void sum_rows(const SumRows& x, void* stream);
void pick_numbers(const PickNumbers& x, void* stream);
}  // namespace cuda

}  // namespace moe

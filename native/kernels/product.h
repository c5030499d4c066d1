// Matrix products on the host at the sizes of a layer: C [M, N] (+)= A [M, K] B [K, N], where a BLAS spends a good part of its time on packing. Goto and van de
// Geijn 2008, https://doi.org/10.1145/1356052.1356053, with what is packed of B in the second cache, and pieces of its strips in the first.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace moe {

// Steps between elements, in elements: any for the factors; C's columns lie side by side. C is of the factors' type, or float32 beside bfloat16. Sums are float
// (double for float64), each element's in one order of the depth whatever its place, so that the bits of a row don't depend on the rows beside it.
struct Product {
  Type type;
  Type result_type;
  const void* a;
  int64_t a_row;
  int64_t a_step;
  const void* b;
  int64_t b_step;
  int64_t b_column;
  void* c;
  int64_t c_row;
  int64_t rows;     // M
  int64_t columns;  // N
  int64_t depth;    // K
  bool add;
};

// Rows [begin, end) of C. scratch: product_scratch bytes, at a multiple of 64, of the thread alone.
#define MOE_PRODUCT                          \
  int64_t product_scratch(const Product& x); \
  void product(const Product& x, int64_t begin, int64_t end, void* scratch);

namespace baseline {
MOE_PRODUCT
}
namespace avx2 {
MOE_PRODUCT
}
namespace avx512 {
MOE_PRODUCT
}
namespace avx512bf16 {
MOE_PRODUCT
}
#undef MOE_PRODUCT

}  // namespace moe

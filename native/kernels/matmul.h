// Matrix products by the best that is there: tiles of this project's own (product.h), the host's BLAS, or the device's library.
#pragma once

#include "torch/torch_abi.h"

namespace moe {

// Whether libtorch has products of bfloat16 factors with a float32 result on CUDA: from 2.8 on.
bool has_wide_product();

// Whether libtorch adds large products of bfloat16 on the host up in float32: where oneDNN takes them, which wants 512-bit registers. Small ones it does not.
bool adds_up_wide();

// result [M, N] (+)= a [M, K] b [K, N], unrecorded. Any strides; the result's type is the factors', or float32 beside bfloat16.
void multiply(const at::Tensor& result, const at::Tensor& a, const at::Tensor& b, bool add = false);

}  // namespace moe

// Products of bfloat16 matrices with a float32 result, where libtorch has them: on CUDA, from 2.8 on.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include "torch/torch_abi.h"

namespace moe {

inline const auto& wide_product() {
  static auto found = c10::Dispatcher::singleton().findSchema({"aten::mm", "dtype_out"});
  return found;
}

inline bool has_wide_product(const at::Tensor& x) { return x.is_cuda() && x.scalar_type() == at::kBFloat16 && wide_product().has_value(); }

// result [M, N] float32 = x [M, K] y [K, N]; only where has_wide_product(x).
inline void multiply_wide(at::Tensor& result, const at::Tensor& x, const at::Tensor& y) {
  using Multiply = at::Tensor&(const at::Tensor&, const at::Tensor&, at::ScalarType, at::Tensor&);
  wide_product()->typed<Multiply>().call(x, y, at::kFloat, result);
}

}  // namespace moe

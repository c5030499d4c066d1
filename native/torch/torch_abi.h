// Tensors cross the ABI as their TensorImpl*, one reference each: no wrapper is allocated for a handle.
#pragma once

#define MOE_WITH_C10
#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include "abi.h"

namespace moe {

using Handle = c10::TensorImpl*;

// A second reference to the tensor behind a handle that the caller keeps.
inline at::Tensor borrow(Handle handle) {
  return at::Tensor(c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>::reclaim_copy(handle));
}

// Gives the tensor's reference away to the managed side; an undefined tensor is null there.
inline Handle release(at::Tensor tensor) {
  return tensor.defined() ? tensor.unsafeReleaseTensorImpl() : nullptr;
}

// What needs a GPU says so in a build without CUDA.
[[noreturn]] inline void refuse_cuda() { TORCH_CHECK(false, "this build has no CUDA: it was made without a CUDA compiler (docs/gpu.md)"); }

}  // namespace moe

// What exports check of their tensors before they take addresses.
#pragma once

#include <initializer_list>

#include "kernels/device.h"

namespace moe {

// The type that elements of `type` are worked in, and in which weights a row stand beside them.
inline Type work_type(Type type) { return type == Type::Float64 ? Type::Float64 : Type::Float32; }

inline void check_device(const char* name, const at::Tensor& tensor, const at::Tensor& beside) {
  TORCH_CHECK(tensor.device() == beside.device(), name, " is on ", tensor.device().str(), ", the tensor beside it on ", beside.device().str());
}

inline void check_tensor(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, Type type, const at::Tensor& beside) {
  TORCH_CHECK(tensor.sizes() == shape && type_of(tensor) == type && tensor.is_contiguous(), name, " should be a contiguous ",
              c10::toString(static_cast<c10::ScalarType>(type)), " ", shape, ", not ", tensor.scalar_type(), " ", tensor.sizes(),
              tensor.is_contiguous() ? "" : " with gaps");
  check_device(name, tensor, beside);
}

// Where a tensor's numbers stand, once it was checked.
template <typename T = void>
T* address(const char* name, Handle handle, at::IntArrayRef shape, Type type, const at::Tensor& beside) {
  TORCH_CHECK(handle != nullptr, name, " may not be left out");
  auto tensor = borrow(handle);
  check_tensor(name, tensor, shape, type, beside);
  return static_cast<T*>(tensor.data_ptr());
}

// The same, and null for one that is left out.
inline void* optional_address(const char* name, Handle handle, at::IntArrayRef shape, Type type, const at::Tensor& beside) {
  return handle == nullptr ? nullptr : address(name, handle, shape, type, beside);
}

// Rows of a matrix may have gaps between them, but not within.
inline void check_rows(const char* name, const at::Tensor& tensor, const at::Tensor& beside) {
  TORCH_CHECK(tensor.dim() == 2 && is_floating(type_of(tensor)) && (tensor.numel() == 0 || tensor.size(1) == 1 || tensor.stride(1) == 1), name,
              " should be a floating-point matrix whose rows have no gaps, not ", tensor.scalar_type(), " ", tensor.sizes());
  check_device(name, tensor, beside);
}

}  // namespace moe

// Where an export's tensors stand, and the stream on which its CUDA form runs.
#pragma once

#include "kernels/types.h"
#include "torch/torch_abi.h"

#ifdef MOE_CUDA
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace moe {

inline Type type_of(const at::Tensor& tensor) { return static_cast<Type>(tensor.scalar_type()); }

inline bool is_floating(Type type) { return type == Type::Float32 || type == Type::Float64 || type == Type::BFloat16; }

// The stream that libtorch's own operators on this tensor's device are queued to.
inline void* stream_of(const at::Tensor& tensor) {
#ifdef MOE_CUDA
  return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
#else
  TORCH_CHECK(false, "a tensor on ", tensor.device().str(), ", but this build has no CUDA kernels: it was made without a CUDA compiler (docs/gpu.md)");
#endif
}

}  // namespace moe

// Runs `on_host` or `on_cuda` by where `tensor` stands; a build without CUDA does not name the second at all.
#ifdef MOE_CUDA
#define MOE_BY_DEVICE(tensor, on_host, on_cuda)         \
  if ((tensor).is_cuda()) {                             \
    c10::cuda::CUDAGuard device_guard((tensor).device()); \
    on_cuda;                                            \
  } else {                                              \
    on_host;                                            \
  }
#else
#define MOE_BY_DEVICE(tensor, on_host, on_cuda) \
  if ((tensor).is_cuda()) {                     \
    moe::stream_of(tensor);                     \
  } else {                                      \
    on_host;                                    \
  }
#endif

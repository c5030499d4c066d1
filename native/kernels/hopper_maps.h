// Maps of tensors in memory, by which a Hopper multiprocessor copies boxes (hopper.cuh): made on the host by the driver.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels/cuda.cuh"

namespace moe::cuda::hopper {

// A tensor [z, y, x] of bfloat16, its strides in elements, and the box that copies take of it. The driver makes it, and wants the thread to have a context,
// which the runtime gives it.
inline CUtensorMap map_of(const void* start, int64_t x, int64_t y, int64_t z, int64_t y_stride, int64_t z_stride, int box_x, int box_y) {
  static const auto encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &status);
#else
    cudaError_t error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &status);
#endif
    check(error, "cuTensorMapEncodeTiled");
    if (status != cudaDriverEntryPointSuccess) {
      throw std::runtime_error("the driver has no cuTensorMapEncodeTiled: a driver of CUDA 12 or later is needed for Hopper's kernels");
    }
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
  }();
  int device = 0;
  check(cudaGetDevice(&device), "the current device");
  check(cudaSetDevice(device), "the device's context");  // allowed while a stream captures, as cudaFree(nullptr) is not
  CUtensorMap map;
  cuuint64_t sizes[3] = {static_cast<cuuint64_t>(x), static_cast<cuuint64_t>(y), static_cast<cuuint64_t>(z)};
  cuuint64_t strides[2] = {static_cast<cuuint64_t>(y_stride) * 2, static_cast<cuuint64_t>(z_stride) * 2};
  cuuint32_t box[3] = {static_cast<cuuint32_t>(box_x), static_cast<cuuint32_t>(box_y), 1};
  cuuint32_t every[3] = {1, 1, 1};
  CUresult result = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(start), sizes, strides, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
                           CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw std::runtime_error("a tensor [" + std::to_string(z) + ", " + std::to_string(y) + ", " + std::to_string(x) + "] with strides " +
                             std::to_string(z_stride) + ", " + std::to_string(y_stride) + " has no map for copies (CUDA driver error " +
                             std::to_string(static_cast<int>(result)) + ")");
  }
  return map;
}

}  // namespace moe::cuda::hopper

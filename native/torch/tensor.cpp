// Storage and lifetime: what the dispatcher does not offer.
#include <cstring>

#include "torch/torch_abi.h"

MOE_EXPORT int32_t moe_tensor_release(moe::Handle handle) {
  MOE_TRY { c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>::reclaim(handle); }
  MOE_CATCH
}

// A second reference to the same tensor.
MOE_EXPORT int32_t moe_tensor_share(moe::Handle handle, moe::Handle* shared) {
  MOE_TRY { *shared = moe::release(moe::borrow(handle)); }
  MOE_CATCH
}

// device: -1 for host memory, else the index of a CUDA device.
MOE_EXPORT int32_t moe_tensor_empty(const int64_t* shape, int32_t rank, int32_t dtype, int32_t device, moe::Handle* result) {
  MOE_TRY {
    auto place = device < 0 ? c10::Device(c10::kCPU) : c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(device));
    auto options = at::TensorOptions().dtype(static_cast<c10::ScalarType>(dtype)).device(place);
    *result = moe::release(at::empty(at::IntArrayRef(shape, rank), options));
  }
  MOE_CATCH
}

// What a handle looks like, in one call. `shape` and `strides` have room for `capacity` numbers each.
MOE_EXPORT int32_t moe_tensor_describe(
    moe::Handle handle, int64_t* shape, int64_t* strides, int32_t capacity, int32_t* rank, int32_t* dtype, int32_t* device, int32_t* contiguous) {
  MOE_TRY {
    auto sizes = handle->sizes();
    auto steps = handle->strides();
    TORCH_CHECK(static_cast<int64_t>(sizes.size()) <= capacity, "a tensor of ", sizes.size(), " dimensions; at most ", capacity, " are supported");
    std::memcpy(shape, sizes.data(), sizes.size() * sizeof(int64_t));
    std::memcpy(strides, steps.data(), steps.size() * sizeof(int64_t));
    *rank = static_cast<int32_t>(sizes.size());
    *dtype = static_cast<int32_t>(c10::typeMetaToScalarType(handle->dtype()));
    *device = handle->device().is_cpu() ? -1 : handle->device().index();
    *contiguous = handle->is_contiguous();
  }
  MOE_CATCH
}

// Address of the first element; null for an empty tensor.
MOE_EXPORT int32_t moe_tensor_data(moe::Handle handle, void** data) {
  MOE_TRY { *data = moe::borrow(handle).data_ptr(); }
  MOE_CATCH
}

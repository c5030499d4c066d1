// The gated activation with the router's weight, forward and backward. Reference: by recorded operators, src/Models/SwiGlu.cs.
#include "kernels/swiglu.h"

#include "kernels/checks.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"

namespace {

// Elements that are worth a thread of their own.
constexpr int64_t kGrain = 1 << 14;

at::Tensor checked_input(moe::Handle handle) {
  auto h = moe::borrow(handle);
  TORCH_CHECK(h.dim() == 2 && h.size(1) % 2 == 0 && moe::is_floating(moe::type_of(h)) && h.is_contiguous(),
              "gate and up should be a contiguous floating-point [R, 2F], not ", h.scalar_type(), " ", h.sizes());
  return h;
}

}  // namespace

// weights: null for 1. activation: [R, F], written.
MOE_EXPORT int32_t moe_swiglu_forward(moe::Handle input, moe::Handle weights, moe::Handle activation) {
  MOE_TRY {
    auto h = checked_input(input);
    auto type = moe::type_of(h);
    int64_t rows = h.size(0), width = h.size(1) / 2;
    moe::SwiGluForward x{type, h.data_ptr(), moe::optional_address("the rows' weights", weights, {rows}, moe::work_type(type), h),
                         moe::address("the activation", activation, {rows, width}, type, h), rows, width};
    MOE_BY_DEVICE(
        h, moe::parallel_for(0, rows, moe::rows_a_thread(kGrain, width), [&](int64_t begin, int64_t end) { MOE_FOR_ISA(swiglu_forward)(x, begin, end); }),
        moe::cuda::swiglu_forward(x, moe::stream_of(h)));
  }
  MOE_CATCH
}

// Writes activation [R, F], input_gradient [R, 2F] and, where there are weights, weight_gradient [R].
MOE_EXPORT int32_t moe_swiglu_backward(moe::Handle input, moe::Handle weights, moe::Handle arriving, moe::Handle activation,
                                       moe::Handle input_gradient, moe::Handle weight_gradient) {
  MOE_TRY {
    auto h = checked_input(input);
    auto type = moe::type_of(h);
    int64_t rows = h.size(0), width = h.size(1) / 2;
    moe::SwiGluBackward x{type,
                          h.data_ptr(),
                          moe::optional_address("the rows' weights", weights, {rows}, moe::work_type(type), h),
                          moe::address("the activation's gradient", arriving, {rows, width}, type, h),
                          moe::address("the activation", activation, {rows, width}, type, h),
                          moe::address("the input's gradient", input_gradient, {rows, 2 * width}, type, h),
                          moe::optional_address("the weights' gradient", weight_gradient, {rows}, moe::work_type(type), h),
                          rows,
                          width};
    MOE_BY_DEVICE(
        h, moe::parallel_for(0, rows, moe::rows_a_thread(kGrain, width), [&](int64_t begin, int64_t end) { MOE_FOR_ISA(swiglu_backward)(x, begin, end); }),
        moe::cuda::swiglu_backward(x, moe::stream_of(h)));
  }
  MOE_CATCH
}

// RMSNorm, alone and behind a residual sum, forward and backward. Reference: by recorded operators, src/Models/RmsNorm.cs and ResidualNorm.cs.
#include "kernels/rms_norm.h"

#include <algorithm>

#include "kernels/checks.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"

namespace {

// Elements that are worth a thread of their own.
constexpr int64_t kGrain = 1 << 14;

// The rows' shape is [R, D] whatever theirs is; D is the last length.
at::Tensor checked_rows(moe::Handle handle) {
  auto x = moe::borrow(handle);
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) >= 1 && moe::is_floating(moe::type_of(x)) && x.is_contiguous(),
              "rows to norm should be contiguous floating-point [..., D], not ", x.scalar_type(), " ", x.sizes());
  return x;
}

void forward_on_host(const moe::RmsNormForward& x) {
  moe::parallel_for(0, x.rows, moe::rows_a_thread(kGrain, x.width), [&](int64_t begin, int64_t end) { MOE_FOR_ISA(rms_norm_forward)(x, begin, end); });
}

void backward_on_host(const moe::RmsNormBackward& x) {
  moe::parallel_for(0, moe::rms_norm_blocks(x.rows), 1, [&](int64_t begin, int64_t end) { MOE_FOR_ISA(rms_norm_backward)(x, begin, end); });
  if (x.dweight != nullptr) {
    moe::parallel_for(0, x.width, kGrain, [&](int64_t begin, int64_t end) { MOE_FOR_ISA(rms_norm_join_blocks)(x, begin, end); });
  }
}

int64_t partials_of(const at::Tensor& rows, int64_t count, int64_t width) {
#ifdef MOE_CUDA
  if (rows.is_cuda()) {
    return moe::cuda::rms_norm_partials(moe::type_of(rows), count, width);
  }
#else
  (void)rows, (void)width;
#endif
  return moe::rms_norm_blocks(count);
}

}  // namespace

// change: null for none, and sum with it. weight: [D], inverse: [R].
MOE_EXPORT int32_t moe_rms_norm_forward(moe::Handle rows, moe::Handle change, moe::Handle weight, double epsilon, moe::Handle sum, moe::Handle normed,
                                        moe::Handle inverse) {
  MOE_TRY {
    auto x = checked_rows(rows);
    auto type = moe::type_of(x);
    auto work = moe::work_type(type);
    int64_t width = x.size(-1), count = x.numel() / width;
    TORCH_CHECK((change == nullptr) == (sum == nullptr), "a residual sum needs both what is added and a place for the sum");
    moe::RmsNormForward arguments{type,
                                  x.data_ptr(),
                                  moe::optional_address("what is added", change, x.sizes(), type, x),
                                  moe::address("the norm's weight", weight, {width}, work, x),
                                  moe::optional_address("the sum", sum, x.sizes(), type, x),
                                  moe::address("the normed rows", normed, x.sizes(), type, x),
                                  moe::address("the rows' inverse root mean square", inverse, {count}, work, x),
                                  count,
                                  width,
                                  epsilon};
    MOE_BY_DEVICE(x, forward_on_host(arguments), moe::cuda::rms_norm_forward(arguments, moe::stream_of(x)));
  }
  MOE_CATCH
}

// sum_gradient: added to the rows' gradient, or null. rows_gradient and weight_gradient: null where not asked for.
MOE_EXPORT int32_t moe_rms_norm_backward(moe::Handle arriving, moe::Handle sum_gradient, moe::Handle rows, moe::Handle weight, moe::Handle inverse,
                                         moe::Handle rows_gradient, moe::Handle weight_gradient) {
  MOE_TRY {
    auto x = checked_rows(rows);
    auto type = moe::type_of(x);
    auto work = moe::work_type(type);
    int64_t width = x.size(-1), count = x.numel() / width;
    at::Tensor partials;
    if (weight_gradient != nullptr) {
      partials = at::empty({partials_of(x, count, width), width}, moe::borrow(weight).options());
    }
    moe::RmsNormBackward arguments{type,
                                   moe::address("the normed rows' gradient", arriving, x.sizes(), type, x),
                                   moe::optional_address("the sum's gradient", sum_gradient, x.sizes(), type, x),
                                   x.data_ptr(),
                                   moe::address("the norm's weight", weight, {width}, work, x),
                                   moe::address("the rows' inverse root mean square", inverse, {count}, work, x),
                                   moe::optional_address("the rows' gradient", rows_gradient, x.sizes(), type, x),
                                   moe::optional_address("the weight's gradient", weight_gradient, {width}, work, x),
                                   partials.defined() ? partials.data_ptr() : nullptr,
                                   count,
                                   width};
    MOE_BY_DEVICE(x, backward_on_host(arguments), moe::cuda::rms_norm_backward(arguments, moe::stream_of(x)));
  }
  MOE_CATCH
}

// A product of bfloat16 rows with a float32 weight in float32 accuracy, by products of bfloat16 factors with a float32 result.
// Shapes: x [T, D] bfloat16, weight [E, D] and logits [T, E] float32. Reference: src/Models/RouterProduct.cs.
#include "kernels/split.h"

#include <c10/core/GradMode.h>

#include "kernels/checks.h"
#include "kernels/matmul.h"

namespace {

void split_on_host(const float* from, c10::BFloat16* to, const moe::Blocks& blocks, const moe::Parts& parts) {
  for (int64_t r = 0; r < blocks.rows; ++r) {
    for (int64_t c = 0; c < blocks.width; ++c) {
      float value = from[r * blocks.width + c];
      c10::BFloat16 part[3];
      for (auto& rounded : part) {
        rounded = value;
        value -= static_cast<float>(rounded);
      }
      for (int b = 0; b < 3; ++b) {
        to[b * blocks.block_stride + r * blocks.row_stride + c] = part[parts.of[b]];
      }
    }
  }
}

void add_on_host(const float* from, float* to, const moe::Blocks& blocks) {
  for (int64_t r = 0; r < blocks.rows; ++r) {
    for (int64_t c = 0; c < blocks.width; ++c) {
      auto at = from + r * blocks.row_stride + c;
      to[r * blocks.width + c] = at[2 * blocks.block_stride] + at[blocks.block_stride] + at[0];
    }
  }
}

// Blocks above one another: [3 R, C].
moe::Blocks stacked(const at::Tensor& x) { return {x.size(0), x.size(1), x.size(1), x.numel()}; }

// Blocks beside one another: [R, 3 C].
moe::Blocks abreast(const at::Tensor& x) { return {x.size(0), x.size(1), 3 * x.size(1), x.size(1)}; }

at::Tensor split(const at::Tensor& x, const moe::Blocks& blocks, at::IntArrayRef shape, const moe::Parts& parts) {
  auto to = at::empty(shape, x.options().dtype(at::kBFloat16));
  MOE_BY_DEVICE(x, split_on_host(x.data_ptr<float>(), to.data_ptr<c10::BFloat16>(), blocks, parts),
                moe::cuda::split(x.data_ptr<float>(), to.data_ptr(), blocks, parts, moe::stream_of(x)));
  return to;
}

void add_blocks(const at::Tensor& from, at::Tensor& to, const moe::Blocks& blocks) {
  MOE_BY_DEVICE(to, add_on_host(from.data_ptr<float>(), to.data_ptr<float>(), blocks),
                moe::cuda::add_blocks(from.data_ptr<float>(), to.data_ptr<float>(), blocks, moe::stream_of(to)));
}

void check_product(const at::Tensor& x, const at::Tensor& weight, const char* name, const at::Tensor& logits) {
  TORCH_CHECK(x.dim() == 2 && weight.dim() == 2, "rows ", x.sizes(), " and a weight ", weight.sizes(), " should be [T, D] and [E, D]");
  moe::check_tensor("the rows", x, {x.size(0), x.size(1)}, moe::Type::BFloat16, x);
  moe::check_tensor("the weight", weight, {weight.size(0), x.size(1)}, moe::Type::Float32, x);
  moe::check_tensor(name, logits, {x.size(0), weight.size(0)}, moe::Type::Float32, x);
}

}  // namespace

// Whether bfloat16 factors have a product with a float32 result on a GPU.
MOE_EXPORT int32_t moe_has_wide_product(int32_t* has) {
  MOE_TRY { *has = moe::has_wide_product() ? 1 : 0; }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_router_product_forward(moe::Handle x_handle, moe::Handle weight_handle, moe::Handle logits_handle) {
  MOE_TRY {
    c10::NoGradGuard unrecorded;
    auto x = moe::borrow(x_handle), weight = moe::borrow(weight_handle), logits = moe::borrow(logits_handle);
    check_product(x, weight, "the logits", logits);
    auto parts = split(weight, stacked(weight), {3 * weight.size(0), weight.size(1)}, {{0, 1, 2}});
    auto products = at::empty({x.size(0), 3 * weight.size(0)}, logits.options());
    moe::multiply(products, x, parts.t());
    add_blocks(products, logits, abreast(logits));
  }
  MOE_CATCH
}

// x_gradient [T, D] bfloat16, weight_gradient [E, D] float32; null where it is not asked for.
MOE_EXPORT int32_t moe_router_product_backward(moe::Handle x_handle, moe::Handle weight_handle, moe::Handle arriving_handle,
                                               moe::Handle x_gradient_handle, moe::Handle weight_gradient_handle) {
  MOE_TRY {
    c10::NoGradGuard unrecorded;
    auto x = moe::borrow(x_handle), weight = moe::borrow(weight_handle), arriving = moe::borrow(arriving_handle);
    check_product(x, weight, "the logits' gradient", arriving);
    int64_t tokens = x.size(0), experts = weight.size(0), width = weight.size(1);
    if (x_gradient_handle != nullptr) {
      auto gradient = moe::borrow(x_gradient_handle);
      moe::check_tensor("the rows' gradient", gradient, x.sizes(), moe::Type::BFloat16, x);
      // To 16 bits, of which the result keeps 8.
      auto left = split(arriving, abreast(arriving), {tokens, 3 * experts}, {{0, 0, 1}});
      auto right = split(weight, stacked(weight), {3 * experts, width}, {{0, 1, 0}});
      moe::multiply(gradient, left, right);
    }
    if (weight_gradient_handle != nullptr) {
      auto gradient = moe::borrow(weight_gradient_handle);
      moe::check_tensor("the weight's gradient", gradient, weight.sizes(), moe::Type::Float32, x);
      auto left = split(arriving, abreast(arriving), {tokens, 3 * experts}, {{0, 1, 2}});
      auto products = at::empty({3 * experts, width}, gradient.options());
      moe::multiply(products, left.t(), x);
      add_blocks(products, gradient, stacked(gradient));
    }
  }
  MOE_CATCH
}

// The router's product, forward and backward: by kernels of its own where they fit (router_product.cu), else by the library's products of bfloat16 factors with a
// float32 result. Reference: by recorded operators, src/Models/RouterProduct.cs.
#include "kernels/router_product.h"

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

// Whether it was done by the kernels of its own.
bool by_kernel(const moe::RouterProduct& product, const at::Tensor& x) {
#ifdef MOE_CUDA
  if (x.is_cuda()) {
    c10::cuda::CUDAGuard device_guard(x.device());
    if (moe::cuda::router_product_fits(product)) {
      auto workspace = at::empty({moe::cuda::router_product_workspace(product)}, x.options().dtype(at::kByte));
      auto work = product.logits != nullptr ? moe::cuda::router_product_forward : moe::cuda::router_product_backward;
      work(product, workspace.data_ptr(), moe::stream_of(x));
      return true;
    }
  }
#else
  (void)product, (void)x;
#endif
  return false;
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
    moe::RouterProduct product{x.size(0), weight.size(0), x.size(1), x.data_ptr(), weight.data_ptr<float>(), logits.data_ptr<float>(), nullptr, nullptr, nullptr};
    if (logits.numel() > 0 && !by_kernel(product, x)) {
      auto parts = split(weight, stacked(weight), {3 * weight.size(0), weight.size(1)}, {{0, 1, 2}});
      auto products = at::empty({x.size(0), 3 * weight.size(0)}, logits.options());
      moe::multiply(products, x, parts.t());
      add_blocks(products, logits, abreast(logits));
    }
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
    auto x_gradient = moe::optional_address("the rows' gradient", x_gradient_handle, x.sizes(), moe::Type::BFloat16, x);
    auto weight_gradient = moe::optional_address("the weight's gradient", weight_gradient_handle, weight.sizes(), moe::Type::Float32, x);
    moe::RouterProduct product{tokens,  experts,    width,
                               x.data_ptr(), weight.data_ptr<float>(), nullptr,
                               arriving.data_ptr<float>(), x_gradient, static_cast<float*>(weight_gradient)};
    if (by_kernel(product, x)) {
      return 0;
    }
    if (x_gradient != nullptr) {
      // To 16 bits, of which the result keeps 8.
      auto left = split(arriving, abreast(arriving), {tokens, 3 * experts}, {{0, 0, 1}});
      auto right = split(weight, stacked(weight), {3 * experts, width}, {{0, 1, 0}});
      moe::multiply(moe::borrow(x_gradient_handle), left, right);
    }
    if (weight_gradient != nullptr) {
      auto gradient = moe::borrow(weight_gradient_handle);
      auto left = split(arriving, abreast(arriving), {tokens, 3 * experts}, {{0, 1, 2}});
      auto products = at::empty({3 * experts, width}, gradient.options());
      moe::multiply(products, left.t(), x);
      add_blocks(products, gradient, stacked(gradient));
    }
  }
  MOE_CATCH
}

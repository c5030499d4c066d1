// Linear head and cross-entropy in chunks of tokens: logits [T, V] never stand whole. The losses' gradients are linear in the scalar that
// arrives, hence they are made beside the losses, chunk by chunk, and scaled in backward. Reference: by recorded operators,
// src/Models/LinearCrossEntropy.cs.
#include "kernels/linear_cross_entropy.h"

#include <c10/core/GradMode.h>

#include <algorithm>

#include "kernels/checks.h"
#include "kernels/isa.h"
#include "kernels/matmul.h"
#include "kernels/noted_squares.h"
#include "kernels/parallel.h"

namespace {

constexpr int64_t kGrain = 1 << 14;
constexpr int64_t kWholeRows = 256;  // a chunk of more is a multiple of it: matrix products then have whole tiles

void cross_entropy_on_host(const moe::CrossEntropy& x) {
  for (int64_t i = 0; i < x.rows; ++i) {
    TORCH_CHECK(x.targets[i] == moe::kNotCounted || (x.targets[i] >= 0 && x.targets[i] < x.vocabulary), "a target is ", x.targets[i],
                ": it should be from 0 to ", x.vocabulary - 1, ", or ", moe::kNotCounted, " for a token that is not counted");
  }
  moe::parallel_for(0, x.rows, moe::rows_a_thread(kGrain, x.vocabulary), [&](int64_t begin, int64_t end) { MOE_FOR_ISA(cross_entropy)(x, begin, end); });
}

void cross_entropy(const moe::CrossEntropy& x, const at::Tensor& beside) {
  MOE_BY_DEVICE(beside, cross_entropy_on_host(x), moe::cuda::cross_entropy(x, moe::stream_of(beside)));
}

template <typename T>
void sum_on_host(const at::Tensor& losses, at::Tensor& sum) {
  const T* from = losses.data_ptr<T>();
  double total = 0;
  for (int64_t i = 0; i < losses.numel(); ++i) {
    total += from[i];
  }
  *sum.data_ptr<T>() = static_cast<T>(total);
}

void sum_losses(const at::Tensor& losses, at::Tensor& sum) {
  MOE_BY_DEVICE(losses, losses.scalar_type() == at::kDouble ? sum_on_host<double>(losses, sum) : sum_on_host<float>(losses, sum),
                moe::cuda::sum_losses(moe::type_of(losses), losses.data_ptr(), losses.numel(), sum.data_ptr(), moe::stream_of(losses)));
}

int64_t chunk_rows(int64_t tokens, int64_t row_bytes, int64_t chunk_bytes) {
  int64_t most = std::max<int64_t>(1, chunk_bytes / row_bytes);
  if (most >= tokens) {
    return tokens;
  }
  int64_t chunks = (tokens + most - 1) / most, even = (tokens + chunks - 1) / chunks;
  int64_t whole = (even + kWholeRows - 1) / kWholeRows * kWholeRows;
  return whole <= most ? whole : even;
}

at::Tensor optional(const char* name, moe::Handle handle, at::IntArrayRef shape, moe::Type type, const at::Tensor& beside) {
  if (handle == nullptr) {
    return {};
  }
  auto tensor = moe::borrow(handle);
  moe::check_tensor(name, tensor, shape, type, beside);
  return tensor;
}

}  // namespace

// hidden [T, D] and head [V, D] of one type, targets [T] int64. chunk_bytes: what a chunk's logits may take. Writes loss [], the sum, and
// where they are asked for hidden_gradient [T, D] in hidden's type and head_gradient [V, D] in the work type.
MOE_EXPORT int32_t moe_linear_cross_entropy(moe::Handle hidden_handle, moe::Handle head_handle, moe::Handle targets_handle, int64_t chunk_bytes,
                                            moe::Handle loss_handle, moe::Handle hidden_gradient_handle, moe::Handle head_gradient_handle) {
  MOE_TRY {
    c10::NoGradGuard unrecorded;
    auto hidden = moe::borrow(hidden_handle), head = moe::borrow(head_handle), targets = moe::borrow(targets_handle), loss = moe::borrow(loss_handle);
    auto type = moe::type_of(hidden);
    auto work = moe::work_type(type);
    TORCH_CHECK(moe::is_floating(type) && hidden.dim() == 2 && head.dim() == 2 && head.size(0) >= 1, "hidden states ", hidden.sizes(), " and a head ",
                head.sizes(), " should be [T, D] and [V, D]");
    int64_t tokens = hidden.size(0), width = hidden.size(1), vocabulary = head.size(0);
    moe::check_tensor("the hidden states", hidden, {tokens, width}, type, hidden);
    moe::check_tensor("the head", head, {vocabulary, width}, type, hidden);
    moe::check_tensor("the targets", targets, {tokens}, moe::Type::Int64, hidden);
    moe::check_tensor("the loss", loss, {}, work, hidden);
    auto hidden_gradient = optional("the hidden states' gradient", hidden_gradient_handle, hidden.sizes(), type, hidden);
    auto head_gradient = optional("the head's gradient", head_gradient_handle, head.sizes(), work, hidden);

    auto wide = hidden.options().dtype(static_cast<c10::ScalarType>(work));
    auto losses = at::empty({tokens}, wide);
    bool gradient = hidden_gradient.defined() || head_gradient.defined();
    int64_t rows = chunk_rows(tokens, vocabulary * hidden.element_size(), chunk_bytes);
    auto memory = at::empty({rows, vocabulary}, hidden.options());
    if (tokens == 0 && head_gradient.defined()) {
      head_gradient.zero_();
    }
    for (int64_t begin = 0; begin < tokens; begin += rows) {
      int64_t count = std::min(rows, tokens - begin);
      auto inputs = hidden.narrow(0, begin, count), logits = memory.narrow(0, 0, count);
      moe::multiply(logits, inputs, head.t());
      cross_entropy({type, logits.data_ptr(), targets.data_ptr<int64_t>() + begin,
                     static_cast<char*>(losses.data_ptr()) + begin * losses.element_size(), gradient, count, vocabulary},
                    hidden);
      const auto& gradients = logits;  // written over them
      if (hidden_gradient.defined()) {
        auto part = hidden_gradient.narrow(0, begin, count);
        moe::multiply(part, gradients, head);
      }
      if (head_gradient.defined()) {
        moe::multiply(head_gradient, gradients.t(), inputs, begin > 0);
      }
    }
    sum_losses(losses, loss);
  }
  MOE_CATCH
}

// to = from * factor, without a wait for factor []; `to` may be `from`, or bfloat16 beside a float32 `from`.
MOE_EXPORT int32_t moe_scale(moe::Handle from_handle, moe::Handle factor_handle, moe::Handle to_handle) {
  MOE_TRY {
    auto from = moe::borrow(from_handle), factor = moe::borrow(factor_handle), to = moe::borrow(to_handle);
    auto type = moe::type_of(from), narrow = moe::type_of(to);
    TORCH_CHECK(moe::is_floating(type) && (narrow == type || (type == moe::Type::Float32 && narrow == moe::Type::BFloat16)), "a product of ",
                from.scalar_type(), " with a factor can't be written as ", to.scalar_type());
    moe::check_tensor("what is scaled", from, from.sizes(), type, from);
    moe::check_tensor("the product", to, from.sizes(), narrow, from);
    moe::check_tensor("the factor", factor, {}, moe::work_type(type), from);
    moe::Scale x{type, narrow, moe::work_type(type), from.data_ptr(), to.data_ptr(), factor.data_ptr(), from.numel()};
    MOE_BY_DEVICE(from, moe::parallel_for(0, x.count, kGrain, [&](int64_t begin, int64_t end) { MOE_FOR_ISA(scale)(x, begin, end); }),
                  moe::cuda::scale(x, moe::stream_of(from)));
    moe::forget_squares(to);
  }
  MOE_CATCH
}

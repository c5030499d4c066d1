// A router's choice, its weights and its statistics in one pass, and their gradient. Reference: by recorded operators, src/Models/RouterChoice.cs.
#include "kernels/router.h"

#include "kernels/checks.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"

namespace {

moe::RouterShape shape_of(const at::Tensor& logits, int64_t segments, int64_t slots, int32_t sigmoid, int32_t normalize, double scale) {
  auto type = moe::type_of(logits);
  TORCH_CHECK(logits.dim() == 2 && logits.is_contiguous() && (type == moe::Type::Float32 || type == moe::Type::Float64),
              "logits should be a contiguous float32 or float64 [T, E], not ", logits.scalar_type(), " ", logits.sizes());
  int64_t tokens = logits.size(0), experts = logits.size(1);
  TORCH_CHECK(slots >= 1 && slots <= experts, slots, " of ", experts, " experts can't be chosen");
  TORCH_CHECK(segments > 0 ? tokens % segments == 0 : tokens == 0, tokens, " tokens don't make ", segments, " segments");
  return {type, segments, segments == 0 ? 0 : tokens / segments, experts, slots, sigmoid != 0, normalize != 0, scale};
}

template <typename T>
void add_blocks(const moe::RouterForward& x) {
  auto sums = static_cast<T*>(x.sums);
  std::vector<double> total(x.experts);
  double squares = 0;
  for (int64_t segment = 0; segment < x.segments; ++segment) {
    std::fill(total.begin(), total.end(), 0.0);
    int64_t* counts = x.counts + segment * x.experts;
    std::fill(counts, counts + x.experts, int64_t{0});
    for (int64_t block = segment * x.blocks_a_segment(); block < (segment + 1) * x.blocks_a_segment(); ++block) {
      for (int64_t e = 0; e < x.experts; ++e) {
        total[e] += x.block_sums[block * x.experts + e];
        counts[e] += x.block_counts[block * x.experts + e];
      }
      squares += x.block_squares[block];
    }
    for (int64_t e = 0; e < x.experts; ++e) {
      sums[segment * x.experts + e] = static_cast<T>(total[e]);
    }
  }
  *static_cast<T*>(x.squares) = static_cast<T>(squares);
}

template <typename Work>
void for_blocks(const moe::RouterShape& x, Work work) {
  moe::parallel_for(0, x.blocks(), 1, [&](int64_t begin, int64_t end) {
    std::vector<double> scratch(2 * x.experts);
    work(begin, end, scratch.data());
  });
}

void forward_on_host(const moe::RouterForward& x) {
  for_blocks(x, [&](int64_t begin, int64_t end, void* scratch) { MOE_FOR_ISA(router_forward)(x, begin, end, scratch); });
  x.type == moe::Type::Float64 ? add_blocks<double>(x) : add_blocks<float>(x);
}

void backward_on_host(const moe::RouterBackward& x) {
  for_blocks(x, [&](int64_t begin, int64_t end, void* scratch) { MOE_FOR_ISA(router_backward)(x, begin, end, scratch); });
}

}  // namespace

// Writes ids [T, k] int64, weights and chosen [T, k], counts [G, E] int64, sums [G, E] and squares [].
MOE_EXPORT int32_t moe_router_forward(moe::Handle logits, moe::Handle bias, int64_t segments, int64_t slots, int32_t sigmoid, int32_t normalize,
                                      double scale, moe::Handle ids, moe::Handle weights, moe::Handle chosen, moe::Handle counts,
                                      moe::Handle sums, moe::Handle squares) {
  MOE_TRY {
    auto input = moe::borrow(logits);
    moe::RouterForward x{};
    static_cast<moe::RouterShape&>(x) = shape_of(input, segments, slots, sigmoid, normalize, scale);
    int64_t tokens = input.size(0), experts = x.experts;
    auto at = [&](const char* name, moe::Handle handle, at::IntArrayRef shape, moe::Type type) {
      return moe::address(name, handle, shape, type, input);
    };
    x.logits = input.data_ptr();
    x.bias = static_cast<const float*>(at("the bias", bias, {experts}, moe::Type::Float32));
    x.ids = static_cast<int64_t*>(at("ids", ids, {tokens, slots}, moe::Type::Int64));
    x.weights = at("weights", weights, {tokens, slots}, x.type);
    x.chosen = at("scores of the chosen", chosen, {tokens, slots}, x.type);
    x.counts = static_cast<int64_t*>(at("counts", counts, {segments, experts}, moe::Type::Int64));
    x.sums = at("sums of shares", sums, {segments, experts}, x.type);
    x.squares = at("the sum of squares", squares, {}, x.type);
    auto block_sums = at::empty({x.blocks(), experts}, input.options().dtype(at::kDouble));
    auto block_squares = at::empty({x.blocks()}, input.options().dtype(at::kDouble));
    auto block_counts = at::empty({x.blocks(), experts}, input.options().dtype(at::kInt));
    x.block_sums = static_cast<double*>(block_sums.data_ptr());
    x.block_squares = static_cast<double*>(block_squares.data_ptr());
    x.block_counts = static_cast<int32_t*>(block_counts.data_ptr());
    MOE_BY_DEVICE(input, forward_on_host(x), moe::cuda::router_forward(x, moe::stream_of(input)));
  }
  MOE_CATCH
}

// Gradients that are null count as zero. Writes logit_grads [T, E].
MOE_EXPORT int32_t moe_router_backward(moe::Handle logits, moe::Handle ids, int64_t segments, int64_t slots, int32_t sigmoid, int32_t normalize,
                                       double scale, moe::Handle weight_grads, moe::Handle sum_grads, moe::Handle square_grad,
                                       moe::Handle logit_grads) {
  MOE_TRY {
    auto input = moe::borrow(logits);
    moe::RouterBackward x{};
    static_cast<moe::RouterShape&>(x) = shape_of(input, segments, slots, sigmoid, normalize, scale);
    int64_t tokens = input.size(0);
    x.logits = input.data_ptr();
    x.ids = static_cast<const int64_t*>(moe::address("ids", ids, {tokens, slots}, moe::Type::Int64, input));
    x.weight_grads = moe::optional_address("the weights' gradient", weight_grads, {tokens, slots}, x.type, input);
    x.sum_grads = moe::optional_address("the gradient of the sums of shares", sum_grads, {segments, x.experts}, x.type, input);
    x.square_grad = moe::optional_address("the gradient of the sum of squares", square_grad, {}, x.type, input);
    x.logit_grads = moe::address("the logits' gradient", logit_grads, {tokens, x.experts}, x.type, input);
    MOE_BY_DEVICE(input, backward_on_host(x), moe::cuda::router_backward(x, moe::stream_of(input)));
  }
  MOE_CATCH
}

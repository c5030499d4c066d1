// Causal attention in host memory, forward and backward, without the [S, S] matrix. Reference: by recorded operators, src/Models/CausalAttention.cs.
#include "kernels/attention.h"

#include "kernels/checks.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"
#include "kernels/scratch.h"

namespace {

moe::Attention checked(moe::Handle projection_handle, moe::Handle cosine_handle, moe::Handle sine_handle, int64_t heads, int64_t kv_heads, int64_t length,
                       moe::Handle output, moe::Handle log_sums) {
  auto projection = moe::borrow(projection_handle), cosine = moe::borrow(cosine_handle);
  auto type = moe::type_of(projection);
  TORCH_CHECK(!projection.is_cuda(), "this attention is for host memory, the projection is on ", projection.device().str());
  TORCH_CHECK(moe::is_floating(type) && projection.dim() == 2 && cosine.dim() == 2 && kv_heads >= 1 && heads % kv_heads == 0 && length >= 1 &&
                  length <= cosine.size(0) && projection.size(0) % length == 0,
              "a projection ", projection.sizes(), " can't be sequences of ", length, " tokens for ", heads, " query heads, ", kv_heads,
              " key and value heads and angles ", cosine.sizes());
  int64_t width = 2 * cosine.size(1), sequences = projection.size(0) / length;
  auto work = moe::work_type(type);
  return {type,
          moe::address("the projection", projection_handle, {sequences * length, (heads + 2 * kv_heads) * width}, type, projection),
          moe::address("the cosines", cosine_handle, cosine.sizes(), work, projection),
          moe::address("the sines", sine_handle, cosine.sizes(), work, projection),
          moe::address("the output", output, {sequences * length, heads * width}, type, projection),
          moe::address("the scores' log-sums", log_sums, {sequences, heads, length}, work, projection),
          nullptr,
          nullptr,
          sequences,
          length,
          heads,
          kv_heads,
          width};
}

void run(const moe::Attention& x, void (*work)(const moe::Attention&, int64_t, int64_t, void*)) {
  int64_t bytes = MOE_FOR_ISA(attention_scratch)(x);
  moe::parallel_for(0, x.sequences * x.key_value_heads, 1, [&](int64_t begin, int64_t end) {
    static thread_local moe::Scratch scratch;
    work(x, begin, end, scratch.of(bytes));
  });
}

}  // namespace

// Writes output [B S, H h] and log_sums [B, H, S].
MOE_EXPORT int32_t moe_attention_forward(moe::Handle projection, moe::Handle cosine, moe::Handle sine, int64_t heads, int64_t key_value_heads,
                                         int64_t length, moe::Handle output, moe::Handle log_sums) {
  MOE_TRY { run(checked(projection, cosine, sine, heads, key_value_heads, length, output, log_sums), MOE_FOR_ISA(attention_forward)); }
  MOE_CATCH
}

// Writes projection_gradient [B S, (H + 2K) h].
MOE_EXPORT int32_t moe_attention_backward(moe::Handle projection, moe::Handle cosine, moe::Handle sine, int64_t heads, int64_t key_value_heads,
                                          int64_t length, moe::Handle output, moe::Handle log_sums, moe::Handle output_gradient,
                                          moe::Handle projection_gradient) {
  MOE_TRY {
    auto x = checked(projection, cosine, sine, heads, key_value_heads, length, output, log_sums);
    auto beside = moe::borrow(projection);
    x.output_gradient = moe::address("the output's gradient", output_gradient, moe::borrow(output).sizes(), x.type, beside);
    x.projection_gradient = moe::address("the projection's gradient", projection_gradient, beside.sizes(), x.type, beside);
    run(x, MOE_FOR_ISA(attention_backward));
  }
  MOE_CATCH
}

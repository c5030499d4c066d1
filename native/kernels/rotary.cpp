// Rotary embedding between the fused projection and heads, forward and backward. Reference: by recorded operators, src/Models/RotaryHeads.cs.
#include "kernels/rotary.h"

#include <algorithm>

#include "kernels/checks.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"

namespace {

constexpr int64_t kGrain = 1 << 14;

moe::Rotary checked(moe::Handle packed_handle, moe::Handle query_handle, moe::Handle key_handle, moe::Handle value_handle, moe::Handle cosine_handle,
                    moe::Handle sine_handle) {
  auto packed = moe::borrow(packed_handle), query = moe::borrow(query_handle), key = moe::borrow(key_handle), cosine = moe::borrow(cosine_handle);
  auto type = moe::type_of(packed);
  TORCH_CHECK(moe::is_floating(type) && query.dim() == 4 && key.dim() == 4 && cosine.dim() == 2 && query.size(3) == 2 * cosine.size(1) &&
                  query.size(1) >= 1 && query.size(1) <= cosine.size(0),
              "queries ", query.sizes(), " and keys ", key.sizes(), " should be [B, S, heads, h] with angles for S positions and h / 2 pairs, not ", cosine.sizes());
  int64_t sequences = query.size(0), length = query.size(1), heads = query.size(2), kv_heads = key.size(2), width = query.size(3);
  return {type,
          moe::address("the projection", packed_handle, {sequences * length, (heads + 2 * kv_heads) * width}, type, packed),
          moe::address("the queries", query_handle, {sequences, length, heads, width}, type, packed),
          moe::address("the keys", key_handle, {sequences, length, kv_heads, width}, type, packed),
          moe::address("the values", value_handle, {sequences, length, kv_heads, width}, type, packed),
          moe::address("the cosines", cosine_handle, cosine.sizes(), moe::work_type(type), packed),
          moe::address("the sines", sine_handle, cosine.sizes(), moe::work_type(type), packed),
          sequences * length,
          length,
          heads,
          kv_heads,
          width};
}

void on_host(const moe::Rotary& x, void (*work)(const moe::Rotary&, int64_t, int64_t)) {
  int64_t grain = moe::rows_a_thread(kGrain, (x.heads + 2 * x.key_value_heads) * x.head_width);
  moe::parallel_for(0, x.tokens, grain, [&](int64_t begin, int64_t end) { work(x, begin, end); });
}

}  // namespace

// packed [B S, (H + 2K) h] -> query [B, S, H, h], key and value [B, S, K, h], the first two turned.
MOE_EXPORT int32_t moe_rotary_forward(moe::Handle packed, moe::Handle cosine, moe::Handle sine, moe::Handle query, moe::Handle key, moe::Handle value) {
  MOE_TRY {
    auto x = checked(packed, query, key, value, cosine, sine);
    auto place = moe::borrow(packed);
    MOE_BY_DEVICE(place, on_host(x, MOE_FOR_ISA(rotary_forward)), moe::cuda::rotary_forward(x, moe::stream_of(place)));
  }
  MOE_CATCH
}

// The gradients of query, key and value -> that of the projection.
MOE_EXPORT int32_t moe_rotary_backward(moe::Handle query, moe::Handle key, moe::Handle value, moe::Handle cosine, moe::Handle sine, moe::Handle packed) {
  MOE_TRY {
    auto x = checked(packed, query, key, value, cosine, sine);
    auto place = moe::borrow(packed);
    MOE_BY_DEVICE(place, on_host(x, MOE_FOR_ISA(rotary_backward)), moe::cuda::rotary_backward(x, moe::stream_of(place)));
  }
  MOE_CATCH
}

// Packing a token's row with its choices for each rank that it goes to, and taking them apart where they arrive.
// Reference: AllGatherDispatcher, by recorded operators over everybody's tokens.
#include "kernels/dispatch.h"

#include <algorithm>
#include <cstring>

#include "kernels/checks.h"
#include "kernels/parallel.h"
#include "kernels/permute.h"

namespace {

constexpr int64_t kGrain = 64;  // rows

// Returns false, with the first id that is neither an expert nor E.
bool plan_on_host(const moe::PlanDispatch& x, int64_t* unknown) {
  int64_t local = x.experts / x.ranks, most = std::min(x.slots, x.ranks);
  std::fill(x.sizes, x.sizes + 2 * x.ranks, int64_t{0});
  for (int64_t token = 0; token < x.tokens; ++token) {
    int64_t* to = x.destinations + token * most;
    int64_t count = 0;
    for (int64_t slot = 0; slot < x.slots; ++slot) {
      int64_t id = x.ids[token * x.slots + slot];
      if (id < 0 || id > x.experts) {
        *unknown = id;
        return false;
      }
      if (id == x.experts) {
        continue;
      }
      int64_t rank = id / local;
      ++x.sizes[2 * rank + 1];
      int64_t place = std::lower_bound(to, to + count, rank) - to;
      if (place == count || to[place] != rank) {
        std::copy_backward(to + place, to + count, to + count + 1);
        to[place] = rank;
        ++count;
        ++x.sizes[2 * rank];
      }
    }
    std::fill(to + count, to + most, x.ranks);
  }
  return true;
}

template <typename T>
void pack_on_host(const moe::PackRows& x, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    int64_t token = x.pairs[row] / x.most, first = x.destinations[x.pairs[row]] * x.local;
    auto to = static_cast<char*>(x.packed) + row * x.layout.stride;
    std::memcpy(to, static_cast<const char*>(x.tokens) + token * x.token_stride, x.layout.row_bytes);
    auto weights = reinterpret_cast<T*>(to + x.layout.weights_at);
    auto ids = reinterpret_cast<int32_t*>(to + x.layout.ids_at);
    int64_t count = 0;
    for (int64_t slot = 0; slot < x.layout.slots; ++slot) {
      int64_t id = x.ids[token * x.layout.slots + slot] - first;
      if (id >= 0 && id < x.local) {
        weights[count] = static_cast<const T*>(x.weights)[token * x.layout.slots + slot];
        ids[count++] = static_cast<int32_t>(id);
      }
    }
    for (; count < x.layout.slots; ++count) {
      weights[count] = 0;
      ids[count] = static_cast<int32_t>(x.local);
    }
  }
}

template <typename T>
void unpack_on_host(const moe::UnpackChoices& x) {
  int64_t slots = x.layout.slots;
  for (int64_t row = 0; row < x.count; ++row) {
    auto from = static_cast<const char*>(x.packed) + row * x.layout.stride;
    auto ids = reinterpret_cast<const int32_t*>(from + x.layout.ids_at);
    std::copy(ids, ids + slots, x.ids + row * slots);
    std::memcpy(static_cast<T*>(x.weights) + row * slots, from + x.layout.weights_at, slots * sizeof(T));
  }
}

template <typename T>
void collect_on_host(const moe::CollectWeights& x) {
  int64_t slots = x.layout.slots;
  auto weights = static_cast<T*>(x.weights);
  std::fill(weights, weights + x.tokens * slots, T(0));
  for (int64_t token = 0; token < x.tokens; ++token) {
    for (int64_t place = 0; place < x.most; ++place) {
      int32_t row = x.places[token * x.most + place];
      if (row < 0) {
        continue;
      }
      auto from = reinterpret_cast<const T*>(static_cast<const char*>(x.packed) + row * x.layout.stride + x.layout.weights_at);
      int64_t first = x.destinations[token * x.most + place] * x.local;
      for (int64_t slot = 0; slot < slots; ++slot) {
        int64_t id = x.ids[token * slots + slot] - first;
        if (id >= 0 && id < x.local) {
          weights[token * slots + slot] = *from++;
        }
      }
    }
  }
}

// packed: [n, stride in elements], of the rows' type.
moe::PackedLayout layout_of(const at::Tensor& packed, int64_t width, int64_t slots, bool with_ids, const at::Tensor& beside) {
  moe::check_tensor("packed rows", packed, packed.sizes(), moe::type_of(packed), beside);
  TORCH_CHECK(packed.dim() == 2 && moe::is_floating(moe::type_of(packed)), "packed rows should be a floating-point matrix");
  int64_t size = packed.element_size();
  bool wide = moe::type_of(packed) == moe::Type::Float64;
  int64_t weights_at = (width * size + 15) / 16 * 16;
  int64_t ids_at = weights_at + slots * (wide ? 8 : 4);
  int64_t bytes = (with_ids ? ids_at + slots * 4 : ids_at) + 15;
  TORCH_CHECK(packed.size(1) * size == bytes / 16 * 16, "packed rows of ", packed.size(1) * size, " bytes, where ", width, " elements and ", slots,
              " choices take ", bytes / 16 * 16);
  return {width * size, bytes / 16 * 16, weights_at, ids_at, slots, wide};
}

}  // namespace

// ids: [T, k] int64. Writes destinations [T, min(k, ranks)] int64 and sizes [ranks, 2] int64.
// *known: 0 where an id is neither an expert nor E, which is then *unknown; a device doesn't look.
MOE_EXPORT int32_t moe_plan_dispatch(moe::Handle ids, int64_t experts, int64_t ranks, moe::Handle destinations, moe::Handle sizes, int32_t* known,
                                     int64_t* unknown) {
  MOE_TRY {
    auto chosen = moe::borrow(ids);
    TORCH_CHECK(chosen.dim() == 2 && ranks >= 1 && experts % ranks == 0, "ids should be [T, k] and ", experts, " experts a multiple of ", ranks, " ranks");
    int64_t tokens = chosen.size(0), slots = chosen.size(1);
    moe::check_tensor("ids", chosen, chosen.sizes(), moe::Type::Int64, chosen);
    moe::PlanDispatch x{static_cast<const int64_t*>(chosen.data_ptr()),
                        tokens,
                        slots,
                        experts,
                        ranks,
                        moe::address<int64_t>("destinations", destinations, {tokens, std::min(slots, ranks)}, moe::Type::Int64, chosen),
                        moe::address<int64_t>("sizes", sizes, {ranks, 2}, moe::Type::Int64, chosen)};
    *known = 1;
    MOE_BY_DEVICE(chosen, *known = plan_on_host(x, unknown) ? 1 : 0, moe::cuda::plan_dispatch(x, moe::stream_of(chosen)));
  }
  MOE_CATCH
}

// tokens [T, D], weights and ids [T, k], destinations [T, m], pairs [N] -> packed [N, stride].
MOE_EXPORT int32_t moe_pack_rows(moe::Handle tokens, moe::Handle weights, moe::Handle ids, moe::Handle destinations, moe::Handle pairs, int64_t local,
                                 moe::Handle packed) {
  MOE_TRY {
    auto from = moe::borrow(tokens), chosen = moe::borrow(ids), to = moe::borrow(packed), places = moe::borrow(destinations);
    moe::check_rows("tokens", from, from);
    int64_t count = from.size(0), slots = chosen.size(1), most = places.size(1);
    auto layout = layout_of(to, from.size(1), slots, true, from);
    TORCH_CHECK(from.scalar_type() == to.scalar_type(), "tokens of ", from.scalar_type(), " can't be packed as ", to.scalar_type());
    moe::PackRows x{layout,
                    from.data_ptr(),
                    from.stride(0) * static_cast<int64_t>(from.element_size()),
                    moe::address("weights", weights, {count, slots}, moe::work_type(moe::type_of(from)), from),
                    moe::address<int64_t>("ids", ids, {count, slots}, moe::Type::Int64, from),
                    moe::address<int64_t>("destinations", destinations, {count, most}, moe::Type::Int64, from),
                    moe::address<int32_t>("pairs", pairs, {to.size(0)}, moe::Type::Int32, from),
                    most,
                    local,
                    to.size(0),
                    to.data_ptr()};
    MOE_BY_DEVICE(from,
                  moe::parallel_for(0, x.count, kGrain,
                                    [&](int64_t begin, int64_t end) {
                                      layout.wide ? pack_on_host<double>(x, begin, end) : pack_on_host<float>(x, begin, end);
                                    }),
                  moe::cuda::pack_rows(x, moe::stream_of(from)));
  }
  MOE_CATCH
}

// packed [n, stride] -> ids [n, k] int64 of this rank's experts, weights [n, k].
MOE_EXPORT int32_t moe_unpack_choices(moe::Handle packed, int64_t width, moe::Handle ids, moe::Handle weights) {
  MOE_TRY {
    auto from = moe::borrow(packed), chosen = moe::borrow(ids);
    TORCH_CHECK(chosen.dim() == 2, "ids should be [n, k]");
    auto layout = layout_of(from, width, chosen.size(1), true, from);
    moe::UnpackChoices x{layout, from.data_ptr(), from.size(0), moe::address<int64_t>("ids", ids, {from.size(0), layout.slots}, moe::Type::Int64, from),
                         moe::address("weights", weights, {from.size(0), layout.slots}, moe::work_type(moe::type_of(from)), from)};
    MOE_BY_DEVICE(from, layout.wide ? unpack_on_host<double>(x) : unpack_on_host<float>(x), moe::cuda::unpack_choices(x, moe::stream_of(from)));
  }
  MOE_CATCH
}

// Gradients on their way back: into packed [n, stride without ids], numbers[places] as the weights' part, [n, k]; 0 at negative places.
MOE_EXPORT int32_t moe_pack_weights(moe::Handle numbers, moe::Handle places, int64_t width, int64_t slots, moe::Handle packed) {
  MOE_TRY {
    auto to = moe::borrow(packed), from = moe::borrow(numbers);
    auto layout = layout_of(to, width, slots, false, to);
    auto type = layout.wide ? moe::Type::Float64 : moe::Type::Float32;
    moe::PickNumbers x{type,
                       moe::address("numbers", numbers, {from.numel()}, type, to),
                       moe::address<int32_t>("places", places, {to.size(0) * slots}, moe::Type::Int32, to),
                       static_cast<char*>(to.data_ptr()) + layout.weights_at,
                       to.size(0) * slots,
                       slots,
                       layout.stride};
    MOE_BY_DEVICE(to, layout.wide ? moe::pick_numbers<double>(x) : moe::pick_numbers<float>(x), moe::cuda::pick_numbers(x, moe::stream_of(to)));
  }
  MOE_CATCH
}

// packed [N, stride without ids], ids [T, k], destinations [T, m], places [T m] -> weights [T, k]; 0 where a choice was dropped.
MOE_EXPORT int32_t moe_collect_weights(moe::Handle packed, int64_t width, moe::Handle ids, moe::Handle destinations, moe::Handle places, int64_t local,
                                       int64_t experts, moe::Handle weights) {
  MOE_TRY {
    auto from = moe::borrow(packed), chosen = moe::borrow(ids), ranks = moe::borrow(destinations);
    TORCH_CHECK(chosen.dim() == 2 && ranks.dim() == 2, "ids should be [T, k] and destinations [T, m]");
    int64_t tokens = chosen.size(0), slots = chosen.size(1), most = ranks.size(1);
    auto layout = layout_of(from, width, slots, false, from);
    moe::CollectWeights x{layout,
                          from.data_ptr(),
                          moe::address<int64_t>("ids", ids, {tokens, slots}, moe::Type::Int64, from),
                          moe::address<int64_t>("destinations", destinations, {tokens, most}, moe::Type::Int64, from),
                          moe::address<int32_t>("places", places, {tokens * most}, moe::Type::Int32, from),
                          most,
                          local,
                          experts,
                          tokens,
                          moe::address("weights", weights, {tokens, slots}, layout.wide ? moe::Type::Float64 : moe::Type::Float32, from)};
    MOE_BY_DEVICE(from, layout.wide ? collect_on_host<double>(x) : collect_on_host<float>(x), moe::cuda::collect_weights(x, moe::stream_of(from)));
  }
  MOE_CATCH
}

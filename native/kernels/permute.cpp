// Sorting (token, slot) pairs by expert, and moving and adding rows by the places found. Reference: by recorded operators, tests/Torch/Kernels/PermuteTests.cs.
#include "kernels/permute.h"

#include <cstring>
#include <limits>

#include "kernels/checks.h"
#include "kernels/isa.h"
#include "kernels/noted_squares.h"
#include "kernels/parallel.h"

namespace {

constexpr int64_t kGrainBytes = 1 << 16;

void spread_on_host(const moe::SpreadRows& x) {
  TORCH_CHECK(*x.taken <= x.rows, *x.taken, " rows have a place, but there is room for ", x.rows);
  auto row = [&](int64_t i) { return static_cast<char*>(x.to) + i * x.to_stride; };
  moe::parallel_for(0, x.count, moe::rows_a_thread(kGrainBytes, x.row_bytes * x.slots), [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      auto from = static_cast<const char*>(x.from) + token * x.from_stride;
      for (int64_t slot = 0; slot < x.slots; ++slot) {
        int32_t place = x.places[token * x.slots + slot];
        if (place >= 0) {
          std::memcpy(row(place), from, x.row_bytes);
        }
      }
    }
  });
  for (int64_t i = *x.taken; i < x.rows; ++i) {
    std::memset(row(i), 0, x.row_bytes);
  }
}

void sum_on_host(const moe::SumRows& x, int64_t row_bytes) {
  moe::parallel_for(0, x.count, moe::rows_a_thread(kGrainBytes, row_bytes), [&](int64_t begin, int64_t end) { MOE_FOR_ISA(sum_rows)(x, begin, end); });
}

const int32_t* places_of(moe::Handle handle, const at::Tensor& beside) {
  auto places = moe::borrow(handle);
  moe::check_tensor("places", places, {places.numel()}, moe::Type::Int32, beside);
  return static_cast<const int32_t*>(places.data_ptr());
}

}  // namespace

// A counting sort: linear in the pairs.
bool moe::sort_pairs(const SortPairs& x, int64_t* unknown) {
  std::fill(x.counts, x.counts + x.experts, int64_t{0});
  for (int64_t pair = 0; pair < x.count; ++pair) {
    int64_t id = x.ids[pair];
    if (id < 0 || id > x.experts) {
      *unknown = id;
      return false;
    }
    if (id < x.experts) {
      ++x.counts[id];
    }
  }
  std::vector<int32_t> next(x.experts + 1);
  for (int64_t expert = 0; expert < x.experts; ++expert) {
    next[expert + 1] = x.offsets[expert] = next[expert] + static_cast<int32_t>(x.counts[expert]);
  }
  for (int64_t pair = 0; pair < x.count; ++pair) {
    int64_t id = x.ids[pair];
    int32_t place = next[id]++;
    x.pairs[place] = static_cast<int32_t>(pair);
    x.places[pair] = id < x.experts ? place : -1;
  }
  return true;
}

// ids: [T, k] int64. Writes pairs [T k] int32 (the dropped ones last), places [T k] int32 (-1 where dropped), counts [E] int64 and offsets [E] int32.
// *known: 0 where an id is neither an expert nor E, which is then *unknown; a device doesn't look.
MOE_EXPORT int32_t moe_sort_pairs(moe::Handle ids, int64_t experts, moe::Handle pairs, moe::Handle places, moe::Handle counts, moe::Handle offsets,
                                  int32_t* known, int64_t* unknown) {
  MOE_TRY {
    auto chosen = moe::borrow(ids);
    int64_t count = chosen.numel();
    moe::check_tensor("ids", chosen, chosen.sizes(), moe::Type::Int64, chosen);
    TORCH_CHECK(count < std::numeric_limits<int32_t>::max(), count, " choices are more than one sort takes: 2^31 - 1");
    moe::SortPairs x{static_cast<const int64_t*>(chosen.data_ptr()),
                     count,
                     experts,
                     moe::address<int32_t>("pairs", pairs, {count}, moe::Type::Int32, chosen),
                     moe::address<int32_t>("places", places, {count}, moe::Type::Int32, chosen),
                     moe::address<int64_t>("counts", counts, {experts}, moe::Type::Int64, chosen),
                     moe::address<int32_t>("offsets", offsets, {experts}, moe::Type::Int32, chosen)};
    *known = 1;
    MOE_BY_DEVICE(chosen, *known = moe::sort_pairs(x, unknown) ? 1 : 0, {
      auto workspace = at::empty({moe::cuda::sort_pairs_workspace(count, experts)}, chosen.options().dtype(at::kInt));
      moe::cuda::sort_pairs(x, static_cast<int32_t*>(workspace.data_ptr()), moe::stream_of(chosen));
    });
  }
  MOE_CATCH
}

// result[places[t * slots + slot]] = source[t], of any floating-point type; places: [T * slots] int32, negative for none, each other at most once. offsets: [E]
// int32, the last one the number of rows that have a place; those beyond become zeros.
MOE_EXPORT int32_t moe_spread_rows(moe::Handle source, moe::Handle places, int64_t slots, moe::Handle offsets, moe::Handle result) {
  MOE_TRY {
    auto from = moe::borrow(source), to = moe::borrow(result), ends = moe::borrow(offsets);
    moe::check_rows("the source", from, from);
    moe::check_rows("the result", to, from);
    moe::check_tensor("offsets", ends, {ends.numel()}, moe::Type::Int32, from);
    TORCH_CHECK(from.size(1) == to.size(1) && from.scalar_type() == to.scalar_type() && from.size(0) * slots == moe::borrow(places).numel() && ends.numel() > 0,
                slots, " places a row for ", moe::borrow(places).sizes(), " don't make ", from.sizes(), " into ", to.sizes());
    int64_t size = from.element_size();
    moe::SpreadRows x{from.data_ptr(),
                      from.stride(0) * size,
                      places_of(places, from),
                      slots,
                      from.size(0),
                      static_cast<const int32_t*>(ends.data_ptr()) + ends.numel() - 1,
                      to.data_ptr(),
                      to.stride(0) * size,
                      to.size(0),
                      to.size(1) * size};
    MOE_BY_DEVICE(from, spread_on_host(x), moe::cuda::spread_rows(x, moe::stream_of(from)));
  }
  MOE_CATCH
}

// result[t] = sum over slots of source[places[t * slots + slot]] + added[t]; added may be null.
MOE_EXPORT int32_t moe_sum_rows(moe::Handle source, moe::Handle places, int64_t slots, moe::Handle added, moe::Handle result) {
  MOE_TRY {
    auto from = moe::borrow(source), to = moe::borrow(result);
    moe::check_rows("the source", from, from);
    moe::check_rows("the result", to, from);
    TORCH_CHECK(from.size(1) == to.size(1) && from.scalar_type() == to.scalar_type() && to.size(0) * slots == moe::borrow(places).numel(),
                slots, " places a row for ", moe::borrow(places).sizes(), " don't make ", from.sizes(), " into ", to.sizes());
    auto type = moe::type_of(from);
    const void* beside = nullptr;
    if (added != nullptr) {
      auto tensor = moe::borrow(added);
      moe::check_tensor("what is added", tensor, to.sizes(), type, from);
      beside = tensor.data_ptr();
    }
    moe::SumRows x{type, from.data_ptr(), from.stride(0), places_of(places, from), slots, beside, to.data_ptr(), to.stride(0), to.size(0), to.size(1)};
    MOE_BY_DEVICE(from, sum_on_host(x, to.size(1) * to.element_size() * slots), moe::cuda::sum_rows(x, moe::stream_of(from)));
    moe::forget_squares(to);
  }
  MOE_CATCH
}

// result[i] = source[places[i]], 0 at negative places; float32 or float64.
MOE_EXPORT int32_t moe_pick_numbers(moe::Handle source, moe::Handle places, moe::Handle result) {
  MOE_TRY {
    auto from = moe::borrow(source), to = moe::borrow(result);
    auto type = moe::type_of(from);
    TORCH_CHECK(type == moe::Type::Float32 || type == moe::Type::Float64, "numbers are picked in float32 or float64, not ", from.scalar_type());
    moe::check_tensor("the source", from, from.sizes(), type, from);
    moe::check_tensor("the result", to, to.sizes(), type, from);
    TORCH_CHECK(to.numel() == moe::borrow(places).numel(), moe::borrow(places).numel(), " places don't fill ", to.sizes());
    moe::PickNumbers x{type, from.data_ptr(), places_of(places, from), to.data_ptr(), to.numel(), std::max<int64_t>(1, to.numel()), 0};
    MOE_BY_DEVICE(from, type == moe::Type::Float64 ? moe::pick_numbers<double>(x) : moe::pick_numbers<float>(x),
                  moe::cuda::pick_numbers(x, moe::stream_of(from)));
  }
  MOE_CATCH
}

// One product an expert over rows sorted by expert, in one call. Offsets stay where the rows are: [E] int32, inclusive sums of the experts' rows.
//
// On the host each expert's product is written into its place (matmul.h). On a device bfloat16 goes through one kernel of this project's on Hopper
// (grouped_matmul_hopper.cu), and through aten::_grouped_mm elsewhere; other types, there for verification, expert by expert with offsets read back.
// Reference: Split, products and Concatenate, src/Models/GroupedSwiGlu.cs.
#include "kernels/grouped_matmul.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "kernels/checks.h"
#include "kernels/device.h"
#include "kernels/matmul.h"
#include "kernels/noted_squares.h"
#include "kernels/optimizer_rules.h"

namespace {

// Calls act(expert, first row, rows) for each expert.
template <typename Act>
void each_group(const at::Tensor& offsets, Act act) {
  auto on_host = offsets.cpu();
  auto ends = on_host.data_ptr<int32_t>();
  for (int64_t group = 0, start = 0; group < on_host.numel(); start = ends[group++]) {
    act(group, start, ends[group] - start);
  }
}

// a [R, K], b [E, K, N] -> [R, N]; what stands beyond the last offset is left as it is.
at::Tensor rows_by_group(const at::Tensor& a, const at::Tensor& b, const at::Tensor& offsets) {
  auto result = at::empty({a.size(0), b.size(2)}, a.options());
  each_group(offsets, [&](int64_t group, int64_t start, int64_t rows) {
    if (rows > 0) {
      moe::multiply(result.narrow(0, start, rows), a.narrow(0, start, rows), b.select(0, group));
    }
  });
  return result;
}

// a [M, R], b [R, N] -> [E, M, N]; zeros for an expert without rows.
at::Tensor matrices_by_group(const at::Tensor& a, const at::Tensor& b, const at::Tensor& offsets) {
  auto result = at::empty({offsets.numel(), a.size(0), b.size(1)}, a.options());
  each_group(offsets, [&](int64_t group, int64_t start, int64_t rows) {
    auto part = result.select(0, group);
    if (rows > 0) {
      moe::multiply(part, a.narrow(1, start, rows), b.narrow(0, start, rows));
    } else {
      part.zero_();
    }
  });
  return result;
}

at::Tensor by_group(const at::Tensor& a, const at::Tensor& b, const at::Tensor& offsets) {
  return b.dim() == 3 ? rows_by_group(a, b, offsets) : matrices_by_group(a, b, offsets);
}

#ifdef MOE_CUDA
// The library's kernel wants 16 bytes between rows, and rows at all.
bool library_takes(const at::Tensor& a, const at::Tensor& b) {
  auto aligned = [](int64_t length) { return length % 8 == 0; };
  bool shapes = b.dim() == 3 ? aligned(a.size(1)) && aligned(b.size(2)) : aligned(a.size(0)) && aligned(b.size(1));
  return a.scalar_type() == at::kBFloat16 && shapes && a.numel() > 0 && b.numel() > 0;
}

at::Tensor by_library(const at::Tensor& a, const at::Tensor& b, const at::Tensor& offsets) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("aten::_grouped_mm", "");
  torch::jit::Stack stack{a, b, offsets};
  const auto& arguments = op.schema().arguments();
  for (size_t i = stack.size(); i < arguments.size(); ++i) {
    stack.push_back(*arguments[i].default_value());
  }
  op.callBoxed(stack);
  return stack[0].toTensor().contiguous();
}

#ifdef MOE_HOPPER
// What copies by boxes want: bfloat16 with one of two neighbouring dimensions without gaps, multiples of 16 bytes between all the rest, and each stride a
// multiple of the one within it.
bool boxes_take(const at::Tensor& x) {
  auto inner = x.stride(-1) == 1 ? -1 : -2, outer = inner == -1 ? -2 : -1;
  auto aligned = [](int64_t elements) { return elements % 8 == 0; };
  return x.scalar_type() == at::kBFloat16 && x.numel() > 0 && x.stride(inner) == 1 && aligned(x.size(inner)) && aligned(x.stride(outer)) &&
         x.stride(outer) >= x.size(inner) && (x.dim() == 2 || (x.stride(0) >= x.stride(outer) && x.stride(0) % x.stride(outer) == 0)) &&
         reinterpret_cast<uintptr_t>(x.data_ptr()) % 16 == 0;
}

bool hopper_takes(const at::Tensor& a, const at::Tensor& b, const at::Tensor& offsets) {
  bool laid = b.dim() == 3 ? a.stride(1) == 1 && b.size(2) % 8 == 0 : a.stride(0) == 1 && b.stride(1) == 1;
  constexpr int64_t kMost = 1 << 30;  // rows and columns are counted in 32 bits
  return laid && offsets.numel() > 0 && boxes_take(a) && boxes_take(b) && a.size(0) < kMost && a.size(1) < kMost && b.size(-1) < kMost &&
         moe::cuda::has_grouped_products(offsets.numel());
}

// activation: [R, N / 2], written beside the result; undefined for none.
at::Tensor rows_by_hopper(const at::Tensor& a, const at::Tensor& b, const at::Tensor& offsets, const at::Tensor& activation, const float* weights) {
  auto ticket = at::empty({1}, offsets.options());
  auto result = at::empty({a.size(0), b.size(2)}, a.options());
  bool is_deep = b.stride(1) == 1;
  moe::cuda::grouped_rows({a.data_ptr(), b.data_ptr(), result.data_ptr(), offsets.data_ptr<int32_t>(), ticket.data_ptr<int32_t>(), offsets.numel(), a.size(0),
                           b.size(2), b.size(1), a.stride(0), is_deep ? b.stride(2) : b.stride(1), b.stride(0), is_deep,
                           activation.defined() ? activation.data_ptr() : nullptr, weights, nullptr},
                          moe::stream_of(result));
  return result;
}

// Of tiles of matrices [E, M, N], `each` a row of tiles.
struct TileSquares {
  at::Tensor sums;
  int64_t each;
};

// c: [E, M, N], written; or null, where `step` takes the gradients.
TileSquares matrices_by_hopper(const at::Tensor& a, const at::Tensor& b, const at::Tensor& offsets, void* c, const moe::cuda::MatrixStep* step) {
  auto ends = offsets.data_ptr<int32_t>();
  auto ticket = at::empty({1}, offsets.options());
  auto maps = at::empty({offsets.numel() * moe::cuda::kMapBytes}, offsets.options().dtype(at::kByte));
  auto tiles = [](int64_t length, int64_t of) { return (length + of - 1) / of; };
  int64_t each = tiles(b.size(1), moe::cuda::kTileColumns) * moe::cuda::kTileSquares;
  auto squares = at::empty({offsets.numel() * tiles(a.size(0), moe::cuda::kTileRows) * each}, a.options().dtype(at::kDouble));
  moe::cuda::grouped_matrices({a.data_ptr(), b.data_ptr(), c, ends, ticket.data_ptr<int32_t>(), maps.data_ptr(), squares.data_ptr<double>(), offsets.numel(),
                               b.size(0), a.size(0), b.size(1), a.stride(1), b.stride(0), step},
                              moe::stream_of(a));
  return {squares, each};
}

at::Tensor by_hopper(const at::Tensor& a, const at::Tensor& b, const at::Tensor& offsets) {
  if (b.dim() == 3) {
    return rows_by_hopper(a, b, offsets, {}, nullptr);
  }
  auto result = at::empty({offsets.numel(), a.size(0), b.size(1)}, a.options());
  auto squares = matrices_by_hopper(a, b, offsets, result.data_ptr(), nullptr);
  moe::note_squares(result, {squares.sums, a.size(0), b.size(1), moe::cuda::kTileRows, squares.each});
  return result;
}
#endif

at::Tensor on_device(const at::Tensor& a, const at::Tensor& b, const at::Tensor& offsets) {
#ifdef MOE_HOPPER
  if (hopper_takes(a, b, offsets)) {
    return by_hopper(a, b, offsets);
  }
#endif
  if (!library_takes(a, b)) {
    return by_group(a, b, offsets);
  }
  auto result = by_library(a, b, offsets);
  if (b.dim() == 2) {
    auto bytes = result[0].numel() * static_cast<int64_t>(result.element_size());
    moe::cuda::zero_empty_groups(result.data_ptr(), offsets.data_ptr<int32_t>(), offsets.numel(), bytes, moe::stream_of(result));
  }
  return result;
}
#endif

// All rows are of one group.
at::Tensor whole(const at::Tensor& a, const at::Tensor& b) {
  auto right = b.dim() == 3 ? b.select(0, 0) : b;
  auto result = at::empty({a.size(0), right.size(1)}, a.options());
  moe::multiply(result, a, right);
  return b.dim() == 3 ? result : result.unsqueeze(0);
}

// Where each group's rows end; undefined where all are of one group.
at::Tensor checked_ends(const at::Tensor& a, const at::Tensor& b, moe::Handle offsets) {
  TORCH_CHECK(a.dim() == 2 && (b.dim() == 3 || b.dim() == 2) && a.size(1) == b.size(b.dim() - 2) && a.scalar_type() == b.scalar_type() && a.device() == b.device(),
              "a grouped product of ", a.scalar_type(), " ", a.sizes(), " on ", a.device().str(), " and ", b.scalar_type(), " ", b.sizes(), " on ", b.device().str());
  if (offsets == nullptr) {
    TORCH_CHECK(b.dim() == 2 || b.size(0) == 1, "without offsets there is one group, not ", b.sizes());
    return {};
  }
  auto ends = moe::borrow(offsets);
  TORCH_CHECK(ends.dim() == 1 && ends.scalar_type() == at::kInt && ends.is_contiguous() && ends.device() == a.device() &&
                  (b.dim() == 2 || ends.size(0) == b.size(0)),
              "offsets should be int32 [E] beside the rows, not ", ends.scalar_type(), " ", ends.sizes());
  return ends;
}

at::Tensor product_of(const at::Tensor& a, const at::Tensor& b, const at::Tensor& ends) {
  if (!ends.defined()) {
    return whole(a, b);
  }
  at::Tensor product;
  MOE_BY_DEVICE(a, product = by_group(a, b, ends), product = on_device(a, b, ends));
  return product;
}

// The product and its activation by one kernel; both undefined where there is none for these.
std::pair<at::Tensor, at::Tensor> gated_at_once(const at::Tensor& a, const at::Tensor& b, const at::Tensor& ends, moe::Handle weights) {
#ifdef MOE_HOPPER
  if (a.is_cuda() && ends.defined()) {
    c10::cuda::CUDAGuard guard(a.device());
    if (b.size(2) % 128 == 0 && b.stride(1) == 1 && hopper_takes(a, b, ends)) {
      auto weight = static_cast<const float*>(moe::optional_address("the rows' weights", weights, {a.size(0)}, moe::Type::Float32, a));
      auto activation = at::empty({a.size(0), b.size(2) / 2}, a.options());
      return {rows_by_hopper(a, b, ends, activation, weight), activation};
    }
  }
#else
  (void)a, (void)b, (void)ends, (void)weights;
#endif
  return {};
}

using Adam = moe::rules::Adam<false>;

// What the gradients' squares add up to, [E] float64, where one kernel makes them and steps the matrices; else undefined.
at::Tensor stepped_at_once(const at::Tensor& a, const at::Tensor& b, const at::Tensor& ends, const moe::Handle* slots, const double* coefficients,
                           bool skips_idle) {
#ifdef MOE_HOPPER
  constexpr int64_t kCount = Adam::kCoefficients;
  if (!a.is_cuda() || !ends.defined()) {
    return {};
  }
  c10::cuda::CUDAGuard guard(a.device());
  if (!hopper_takes(a, b, ends)) {
    return {};
  }
  int64_t groups = ends.numel();
  for (int64_t group = 0; group < groups; ++group) {
    if (coefficients[group * kCount + Adam::kCoupledDecay] != 0) {  // optimizer.cuh
      return {};
    }
  }
  moe::cuda::MatrixStep step{};
  std::vector<const c10::StorageImpl*> written;
  for (size_t i = 0; i < std::size(step.slots); ++i) {
    if (moe::borrow(slots[i]).scalar_type() != at::kBFloat16) {
      return {};
    }
    step.slots[i] = moe::address("a slot of the update", slots[i], {groups, a.size(0), b.size(1)}, moe::Type::BFloat16, a);
    if (reinterpret_cast<uintptr_t>(step.slots[i]) % 16 != 0) {
      return {};
    }
    written.push_back(slots[i]->storage().unsafeGetStorageImpl());
  }
  auto pinned = at::empty({groups, kCount}, at::TensorOptions().dtype(at::kFloat).pinned_memory(true));
  std::copy_n(coefficients, groups * kCount, pinned.data_ptr<float>());
  auto table = pinned.to(a.device(), /*non_blocking=*/true);
  step.coefficients = table.data_ptr<float>();
  step.skips_idle = skips_idle;
  auto squares = matrices_by_hopper(a, b, ends, nullptr, &step);
  moe::forget_squares(written);
  return squares.sums.view({groups, -1}).sum(1);
#else
  (void)a, (void)b, (void)ends, (void)slots, (void)coefficients, (void)skips_idle;
  return {};
#endif
}

// What the backward of a gated activation makes.
struct GatedGradients {
  at::Tensor activation;
  at::Tensor hidden;
  at::Tensor weights;  // undefined where the rows have none
};

// The same by the kernel of the product that arrives there; all undefined where there is none for these.
GatedGradients gradients_at_once(const at::Tensor& a, const at::Tensor& b, const at::Tensor& ends, const at::Tensor& hidden, moe::Handle weights) {
#ifdef MOE_HOPPER
  if (a.is_cuda() && ends.defined() && hidden.dim() == 2 && hidden.is_contiguous()) {
    c10::cuda::CUDAGuard guard(a.device());
    int64_t rows = a.size(0), width = b.size(2);
    if (width % 64 == 0 && b.stride(2) == 1 && hopper_takes(a, b, ends) && boxes_take(hidden)) {
      moe::check_tensor("gates and ups", hidden, {rows, 2 * width}, moe::Type::BFloat16, a);
      auto weight = static_cast<const float*>(moe::optional_address("the rows' weights", weights, {rows}, moe::Type::Float32, a));
      int64_t tiles = (width + moe::cuda::kTileColumns - 1) / moe::cuda::kTileColumns;
      auto ticket = at::empty({1}, ends.options());
      auto wide = a.options().dtype(at::kFloat);
      GatedGradients made{at::empty({rows, width}, a.options()), at::empty({rows, 2 * width}, a.options()), {}};
      at::Tensor sums;
      if (weight != nullptr) {
        made.weights = at::empty({rows}, wide);
        sums = tiles > 1 ? at::empty({rows, tiles}, wide) : at::Tensor();
      }
      auto floats = [](const at::Tensor& x) { return x.defined() ? x.data_ptr<float>() : nullptr; };
      moe::cuda::GatedBackward backward{hidden.data_ptr(), weight, made.activation.data_ptr(), made.hidden.data_ptr(), floats(made.weights), floats(sums)};
      moe::cuda::grouped_rows({a.data_ptr(), b.data_ptr(), nullptr, ends.data_ptr<int32_t>(), ticket.data_ptr<int32_t>(), ends.numel(), rows, width, b.size(1),
                               a.stride(0), b.stride(1), b.stride(0), false, nullptr, nullptr, &backward},
                              moe::stream_of(a));
      return made;
    }
  }
#else
  (void)a, (void)b, (void)ends, (void)hidden, (void)weights;
#endif
  return {};
}

}  // namespace

// a [R, K], b [E, K, N] -> [R, N], or a [M, R], b [R, N] -> [E, M, N]. Any strides, so that transposes are views. offsets: [E] int32 beside them, or
// null where all rows are of one group.
MOE_EXPORT int32_t moe_grouped_matmul(moe::Handle left, moe::Handle right, moe::Handle offsets, moe::Handle* result) {
  MOE_TRY {
    at::AutoDispatchBelowADInplaceOrView unrecorded;
    auto a = moe::borrow(left), b = moe::borrow(right);
    *result = moe::release(product_of(a, b, checked_ends(a, b, offsets)));
  }
  MOE_CATCH
}

// rows [R, D] by the matrices gate_up [E, 2F, D] of their groups -> product [R, 2F]; offsets as above. Where the product's kernel can make it along with that,
// activation [R, F] = silu(gate) * up * weights, as moe_swiglu_forward would; else null. weights: [R] float32, or null for 1.
MOE_EXPORT int32_t moe_gated_matmul(moe::Handle rows, moe::Handle gate_up, moe::Handle offsets, moe::Handle weights, moe::Handle* product,
                                    moe::Handle* activation) {
  MOE_TRY {
    at::AutoDispatchBelowADInplaceOrView unrecorded;
    auto a = moe::borrow(rows), matrices = moe::borrow(gate_up);
    TORCH_CHECK(matrices.dim() == 3, "gates and ups should be [E, 2F, D], not ", matrices.sizes());
    auto b = matrices.transpose(1, 2);
    auto ends = checked_ends(a, b, offsets);
    auto [made, active] = gated_at_once(a, b, ends, weights);
    *product = moe::release(made.defined() ? std::move(made) : product_of(a, b, ends));
    *activation = moe::release(std::move(active));
  }
  MOE_CATCH
}

// a [M, R], b [R, N]: the gradients [E, M, N] of matrices, which are stepped by them where one kernel does both; else nothing is done, and squares is null. slots:
// [E, M, N] each, those of the rule but the gradient; coefficients: [E, of the rule]. skips_idle: whether matrices of groups without rows are left as they are.
// squares: [E] float64, what those of each gradient add up to.
MOE_EXPORT int32_t moe_grouped_matmul_step(moe::Handle left, moe::Handle right, moe::Handle offsets, int32_t rule, const moe::Handle* slots, int64_t slot_count,
                                           const double* coefficients, int64_t coefficient_count, int32_t skips_idle, moe::Handle* squares) {
  MOE_TRY {
    at::AutoDispatchBelowADInplaceOrView unrecorded;
    auto a = moe::borrow(left), b = moe::borrow(right);
    TORCH_CHECK(b.dim() == 2, "the gradients of matrices are made of rows, not of ", b.sizes());
    auto ends = checked_ends(a, b, offsets);
    at::Tensor made;
    if (static_cast<moe::Rule>(rule) == moe::Rule::Adam) {
      int64_t groups = ends.defined() ? ends.numel() : 1;
      TORCH_CHECK(slot_count == Adam::kSlots - 1, "values, means and mean squares are stepped together, not ", slot_count, " slots");
      TORCH_CHECK(coefficient_count == groups * Adam::kCoefficients, "update rule ", rule, " takes ", Adam::kCoefficients, " coefficients a matrix, not ",
                  coefficient_count, " for ", groups, " matrices");
      made = stepped_at_once(a, b, ends, slots, coefficients, skips_idle != 0);
    }
    *squares = moe::release(std::move(made));
  }
  MOE_CATCH
}

// arriving [R, D] by the matrices down [E, D, F] of their groups: the gradient of an activation [R, F] of hidden [R, 2F] and the rows' weights [R] (float32;
// null for 1). Where the product's kernel can go on from there, what moe_swiglu_backward would make of it, and no product: activation [R, F],
// hidden_gradient [R, 2F] and, where there are weights, weight_gradient [R]. Elsewhere the product [R, F] alone. What is not made is null; offsets as above.
MOE_EXPORT int32_t moe_gated_matmul_backward(moe::Handle arriving, moe::Handle down, moe::Handle offsets, moe::Handle hidden, moe::Handle weights,
                                             moe::Handle* product, moe::Handle* activation, moe::Handle* hidden_gradient, moe::Handle* weight_gradient) {
  MOE_TRY {
    at::AutoDispatchBelowADInplaceOrView unrecorded;
    auto a = moe::borrow(arriving), b = moe::borrow(down);
    TORCH_CHECK(b.dim() == 3, "down projections should be [E, D, F], not ", b.sizes());
    auto ends = checked_ends(a, b, offsets);
    auto made = gradients_at_once(a, b, ends, moe::borrow(hidden), weights);
    *product = moe::release(made.activation.defined() ? at::Tensor() : product_of(a, b, ends));
    *activation = moe::release(std::move(made.activation));
    *hidden_gradient = moe::release(std::move(made.hidden));
    *weight_gradient = moe::release(std::move(made.weights));
  }
  MOE_CATCH
}

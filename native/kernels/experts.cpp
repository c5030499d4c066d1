// The SwiGLUs of experts on the host, whole: which of them the kernel takes, and a thread for each expert. Reference: GroupedSwiGlu.Reference, src/Models/GroupedSwiGlu.cs.
#include "kernels/experts.h"

#include "kernels/checks.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"
#include "kernels/scratch.h"

namespace {

constexpr int64_t kLine = 64;             // bytes
constexpr int64_t kMostPacked = 1 << 19;  // of the matrices of an expert; as much again takes their gradients

int64_t size_of(moe::Type type) { return type == moe::Type::Float64 ? 8 : 4; }

// Tiles need wide registers; without an expert for each thread, products that share their rows out are better.
bool fits(moe::Type type, int64_t experts, int64_t width, int64_t hidden) {
  int64_t size = size_of(type);
  return moe::isa() != moe::Isa::Baseline && (type == moe::Type::Float32 || type == moe::Type::Float64) && width > 0 && hidden > 0 && width * size % kLine == 0 &&
         hidden * size % kLine == 0 && 3 * hidden * width * size <= kMostPacked && experts >= at::get_num_threads();
}

// Ends of the experts' rows: given, or those of one expert.
struct Ends {
  at::Tensor given;
  int32_t whole;

  Ends(moe::Handle offsets, int64_t rows) : whole(static_cast<int32_t>(rows)) {
    if (offsets != nullptr) {
      given = moe::borrow(offsets);
    }
  }
  const int32_t* get() const { return given.defined() ? given.data_ptr<int32_t>() : &whole; }
};

moe::Experts checked(const at::Tensor& rows, moe::Handle gate_up_handle, moe::Handle down_handle, const Ends& ends, moe::Handle weights, moe::Handle hidden_handle) {
  auto gate_up = moe::borrow(gate_up_handle);
  auto type = moe::type_of(rows);
  TORCH_CHECK(rows.is_cpu() && rows.dim() == 2 && gate_up.dim() == 3 && gate_up.size(1) % 2 == 0, "rows ", rows.sizes(), " and matrices ", gate_up.sizes(),
              " should be [R, D] and [E, 2F, D] in host memory");
  int64_t count = rows.size(0), experts = gate_up.size(0), width = rows.size(1), half = gate_up.size(1) / 2;
  TORCH_CHECK(fits(type, experts, width, half), experts, " experts of width ", half, " over rows ", rows.scalar_type(), " ", rows.sizes(), " don't suit this kernel");
  TORCH_CHECK(!ends.given.defined() ? experts == 1
                                    : ends.given.is_cpu() && ends.given.scalar_type() == at::kInt && ends.given.sizes() == at::IntArrayRef{experts} &&
                                          ends.given.is_contiguous(),
              "offsets should be int32 [E] in host memory for ", experts, " experts");
  for (int64_t i = 0; i < experts; ++i) {
    TORCH_CHECK((i == 0 ? 0 : ends.get()[i - 1]) <= ends.get()[i] && ends.get()[i] <= count, "offset ", ends.get()[i], " of expert ", i, " does not fit ", count, " rows");
  }
  return {type,
          moe::address("the rows", rows.unsafeGetTensorImpl(), {count, width}, type, rows),
          moe::address("gate_up", gate_up_handle, {experts, 2 * half, width}, type, rows),
          moe::address("down", down_handle, {experts, width, half}, type, rows),
          moe::optional_address("the rows' weights", weights, {count}, type, rows),
          ends.get(),
          moe::address("the first projection", hidden_handle, {count, 2 * half}, type, rows),
          experts,
          width,
          half};
}

template <typename Work>
void by_expert(const moe::Experts& x, Work work) {
  int64_t bytes = MOE_FOR_ISA(experts_scratch)(x);
  moe::parallel_for(0, x.experts, 1, [&](int64_t begin, int64_t end) {
    static thread_local moe::Scratch scratch;
    work(begin, end, scratch.of(bytes));
  });
}

}  // namespace

// Whether the kernel takes E experts of inner width F over rows of width D on this host.
MOE_EXPORT int32_t moe_experts_fit(int32_t type, int64_t experts, int64_t width, int64_t hidden, int32_t* result) {
  MOE_TRY { *result = fits(static_cast<moe::Type>(type), experts, width, hidden) ? 1 : 0; }
  MOE_CATCH
}

// Writes hidden [R, 2F] and output [R, D]; rows beyond the last offset are left as they are. offsets: null for one expert; weights: null for 1.
MOE_EXPORT int32_t moe_experts_forward(moe::Handle rows_handle, moe::Handle gate_up, moe::Handle down, moe::Handle offsets, moe::Handle weights, moe::Handle hidden,
                                       moe::Handle output) {
  MOE_TRY {
    auto rows = moe::borrow(rows_handle);
    Ends ends(offsets, rows.size(0));
    auto x = checked(rows, gate_up, down, ends, weights, hidden);
    TORCH_CHECK(reinterpret_cast<uintptr_t>(x.hidden) % kLine == 0, "the first projection should begin at a multiple of ", kLine, " bytes");
    auto y = moe::address("the output", output, rows.sizes(), x.type, rows);
    by_expert(x, [&](int64_t begin, int64_t end, void* scratch) { MOE_FOR_ISA(experts_forward)(x, y, begin, end, scratch); });
  }
  MOE_CATCH
}

// Writes the gradients of the rows [R, D], of the weights [R] where there are any, of gate_up and of down: zeros for an expert without rows.
MOE_EXPORT int32_t moe_experts_backward(moe::Handle rows_handle, moe::Handle gate_up, moe::Handle down, moe::Handle offsets, moe::Handle weights, moe::Handle hidden,
                                        moe::Handle arriving, moe::Handle rows_gradient, moe::Handle weights_gradient, moe::Handle gate_up_gradient,
                                        moe::Handle down_gradient) {
  MOE_TRY {
    auto rows = moe::borrow(rows_handle);
    Ends ends(offsets, rows.size(0));
    auto x = checked(rows, gate_up, down, ends, weights, hidden);
    moe::ExpertsBackward gradients{moe::address("the output's gradient", arriving, rows.sizes(), x.type, rows),
                                   moe::address("the rows' gradient", rows_gradient, rows.sizes(), x.type, rows),
                                   moe::optional_address("the weights' gradient", weights_gradient, {rows.size(0)}, x.type, rows),
                                   moe::address("gate_up's gradient", gate_up_gradient, {x.experts, 2 * x.hidden_width, x.width}, x.type, rows),
                                   moe::address("down's gradient", down_gradient, {x.experts, x.width, x.hidden_width}, x.type, rows)};
    by_expert(x, [&](int64_t begin, int64_t end, void* scratch) { MOE_FOR_ISA(experts_backward)(x, gradients, begin, end, scratch); });
  }
  MOE_CATCH
}

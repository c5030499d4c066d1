// Optimizer updates over a list of tensors in one call: each element is read and written once, whatever the rule.
//
// Reference: one scalar at a time in double precision (tests/Optimizers/FusedRuleTests.cs), and the published programs' numbers (Golden beside it).
// The list is cut into blocks that threads share; what a block yields does not depend on who works it.
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "kernels/optimizer.h"
#include "kernels/optimizer_rules.h"
#include "torch/torch_abi.h"

namespace {

// Elements a thread takes at once: a few hundred kilobytes of all slots together, so that the list divides evenly among threads.
constexpr int64_t kBlock = 1 << 14;

struct Block {
  int64_t tensor;
  int64_t begin;
  int64_t end;
};

std::vector<Block> blocks_of(const moe::Handle* tensors, int64_t count) {
  std::vector<Block> blocks;
  for (int64_t i = 0; i < count; ++i) {
    int64_t size = tensors[i]->numel();
    for (int64_t begin = 0; begin < size; begin += kBlock) {
      blocks.push_back({i, begin, std::min(begin + kBlock, size)});
    }
  }
  return blocks;
}

void* address(moe::Handle tensor) { return moe::borrow(tensor).data_ptr(); }

struct RuleShape {
  int slots;
  int coefficients;
};

RuleShape shape_of(moe::Rule rule) {
  RuleShape shape{0, 0};
  moe::rules::with(rule, [&](auto r) { shape = {r.kSlots, r.kCoefficients}; });
  TORCH_CHECK(shape.slots > 0, "update rule ", static_cast<int32_t>(rule), " is unknown");
  return shape;
}

// The element type that all tensors share, as "is it double?".
bool check_alike(const moe::Handle* tensors, int64_t count) {
  auto type = tensors[0]->dtype();
  TORCH_CHECK(type == caffe2::TypeMeta::Make<float>() || type == caffe2::TypeMeta::Make<double>(), "updates are in float32 or float64, not ", type.name());
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK(tensors[i]->device().is_cpu() && tensors[i]->is_contiguous() && tensors[i]->dtype() == type,
                "tensor ", i, " of the list should be contiguous ", type.name(), " in host memory");
  }
  return type == caffe2::TypeMeta::Make<double>();
}

struct Kernels {
  moe::StepRange step;
  moe::SumSquares squares;
};

const Kernels& kernels() {
  static const Kernels chosen = [] {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) {
      return Kernels{moe::avx512::step_range, moe::avx512::sum_squares};
    }
    if (__builtin_cpu_supports("avx2")) {
      return Kernels{moe::avx2::step_range, moe::avx2::sum_squares};
    }
#endif
    return Kernels{moe::baseline::step_range, moe::baseline::sum_squares};
  }();
  return chosen;
}

template <typename Work>
void for_each_block(int64_t count, Work work) {
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      work(i);
    }
  });
}

}  // namespace

// tensors: [slots, count], those of one slot after one another; all of one type, and within one place of the list of one size.
// coefficients: [count, coefficients of the rule].
MOE_EXPORT int32_t moe_optimizer_update(int32_t rule, const moe::Handle* tensors, int32_t slots, int64_t count, const double* coefficients, int64_t coefficient_count) {
  MOE_TRY {
    auto chosen = static_cast<moe::Rule>(rule);
    auto shape = shape_of(chosen);
    TORCH_CHECK(slots == shape.slots && coefficient_count == count * shape.coefficients, "update rule ", rule, " takes ", shape.slots, " slots and ",
                shape.coefficients, " coefficients a tensor, not ", slots, " and ", coefficient_count, " for ", count, " tensors");
    if (count == 0) {
      return 0;
    }
    bool wide = check_alike(tensors, slots * count);
    std::vector<void*> addresses(slots * count);  // [count, slots]
    for (int64_t i = 0; i < count; ++i) {
      for (int32_t slot = 0; slot < slots; ++slot) {
        auto tensor = tensors[slot * count + i];
        TORCH_CHECK(tensor->numel() == tensors[i]->numel(), "slot ", slot, " of tensor ", i, " has ", tensor->numel(), " elements, its value ", tensors[i]->numel());
        addresses[i * slots + slot] = address(tensor);
      }
    }
    auto blocks = blocks_of(tensors, count);
    auto step = kernels().step;
    for_each_block(blocks.size(), [&](int64_t i) {
      const auto& block = blocks[i];
      step(chosen, wide, &addresses[block.tensor * slots], coefficients + block.tensor * shape.coefficients, block.begin, block.end);
    });
  }
  MOE_CATCH
}

// norms: [count], the Euclidean norm of each tensor; the same bits whatever the number of threads.
MOE_EXPORT int32_t moe_norms(const moe::Handle* tensors, int64_t count, double* norms) {
  MOE_TRY {
    if (count == 0) {
      return 0;
    }
    bool wide = check_alike(tensors, count);
    std::vector<const void*> addresses(count);
    std::transform(tensors, tensors + count, addresses.begin(), address);
    auto blocks = blocks_of(tensors, count);
    std::vector<double> sums(blocks.size());
    auto squares = kernels().squares;
    for_each_block(blocks.size(), [&](int64_t i) { sums[i] = squares(wide, addresses[blocks[i].tensor], blocks[i].begin, blocks[i].end); });
    std::fill(norms, norms + count, 0.0);
    for (size_t i = 0; i < blocks.size(); ++i) {
      norms[blocks[i].tensor] += sums[i];
    }
    std::transform(norms, norms + count, norms, [](double sum) { return std::sqrt(sum); });
  }
  MOE_CATCH
}

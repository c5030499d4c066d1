// Optimizer updates over a list of tensors in one call: each element is read and written once, whatever the rule.
//
// Reference: one scalar at a time in double precision (tests/Optimizers/FusedRuleTests.cs), and the published programs' numbers (Golden beside it).
// The list is cut into blocks that threads share; what a block yields does not depend on who works it. Elements are worked in float64 where they
// all are float64, else in float32, which bfloat16 ones are widened to and rounded from once.

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "kernels/isa.h"
#include "kernels/noted_squares.h"
#include "kernels/optimizer.h"
#include "kernels/optimizer_rules.h"
#include "kernels/parallel.h"

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
  int written;  // a bit a slot
};

RuleShape shape_of(moe::Rule rule) {
  RuleShape shape{0, 0, 0};
  moe::rules::with(rule, [&](auto r) { shape = {r.kSlots, r.kCoefficients, r.kWritten}; });
  TORCH_CHECK(shape.slots > 0, "update rule ", static_cast<int32_t>(rule), " is unknown");
  return shape;
}

// All of one device; all float64, or each float32 or bfloat16. Returns "are they float64?".
bool check_alike(const moe::Handle* tensors, int64_t count) {
  auto wide = [](moe::Handle tensor) { return tensor->dtype() == caffe2::TypeMeta::Make<double>(); };
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK(wide(tensors[i]) || tensors[i]->dtype() == caffe2::TypeMeta::Make<float>() || tensors[i]->dtype() == caffe2::TypeMeta::Make<c10::BFloat16>(),
                "updates are of float32, bfloat16 or float64, not ", tensors[i]->dtype().name());
    TORCH_CHECK(wide(tensors[i]) == wide(tensors[0]) && tensors[i]->device() == tensors[0]->device() && tensors[i]->is_contiguous(),
                "tensor ", i, " of the list should be contiguous, on ", tensors[0]->device().str(), " and ", wide(tensors[0]) ? "" : "not ", "float64 like the first");
  }
  return wide(tensors[0]);
}

moe::Type type_of(moe::Handle tensor) { return static_cast<moe::Type>(c10::typeMetaToScalarType(tensor->dtype())); }

// [count] entries of `slots` tensors each, those of one slot after one another; copies: [count], null for tensors without one, or null for none.
std::vector<moe::StepEntry> entries_of(const moe::Handle* tensors, int32_t slots, int64_t count, const moe::Handle* copies) {
  std::vector<moe::StepEntry> entries(count);
  for (int64_t i = 0; i < count; ++i) {
    auto& entry = entries[i];
    entry = {};
    entry.size = tensors[i]->numel();
    uintptr_t bits = 0;
    for (int32_t slot = 0; slot < slots; ++slot) {
      auto tensor = tensors[slot * count + i];
      TORCH_CHECK(tensor->numel() == entry.size, "slot ", slot, " of tensor ", i, " has ", tensor->numel(), " elements, its value ", entry.size);
      entry.slots[slot] = address(tensor);
      entry.types[slot] = type_of(tensor);
      bits |= reinterpret_cast<uintptr_t>(entry.slots[slot]);
    }
    if (copies != nullptr && copies[i] != nullptr) {
      TORCH_CHECK(type_of(copies[i]) == moe::Type::BFloat16 && copies[i]->numel() == entry.size && copies[i]->is_contiguous() && copies[i]->device() == tensors[i]->device(),
                  "the copy of tensor ", i, " should be bfloat16, contiguous and of its size and device");
      entry.copy = address(copies[i]);
      bits |= reinterpret_cast<uintptr_t>(entry.copy);
    }
    entry.aligned = bits % 16 == 0;
  }
  return entries;
}

// What the rule writes, once where neighbours of the list are views of one storage.
std::vector<const c10::StorageImpl*> storages_of(const RuleShape& shape, const moe::Handle* tensors, int64_t count, const moe::Handle* copies) {
  std::vector<const c10::StorageImpl*> storages;
  auto add = [&](moe::Handle tensor) {
    auto storage = tensor->storage().unsafeGetStorageImpl();
    if (storages.empty() || storages.back() != storage) {
      storages.push_back(storage);
    }
  };
  for (int64_t i = 0; i < shape.slots * count; ++i) {
    if ((shape.written >> i / count & 1) != 0) {
      add(tensors[i]);
    }
  }
  for (int64_t i = 0; copies != nullptr && i < count; ++i) {
    if (copies[i] != nullptr) {
      add(copies[i]);
    }
  }
  return storages;
}

bool has_bfloat16(const moe::StepEntry& entry, int slots) {
  return entry.copy != nullptr || std::any_of(entry.types, entry.types + slots, [](moe::Type type) { return type == moe::Type::BFloat16; });
}

// A block of a tensor with slots in bfloat16: steps float32 copies of them.
void step_narrow(moe::Rule rule, int slots, const moe::StepEntry& entry, const double* coefficients, int64_t begin, int64_t end) {
  int64_t length = end - begin;
  std::vector<float> scratch(slots * length);
  void* addresses[moe::kMostSlots];
  for (int slot = 0; slot < slots; ++slot) {
    float* wide = scratch.data() + slot * length;
    addresses[slot] = wide;
    if (entry.types[slot] == moe::Type::BFloat16) {
      auto values = static_cast<const c10::BFloat16*>(entry.slots[slot]) + begin;
      std::copy(values, values + length, wide);
    } else {
      std::memcpy(wide, static_cast<const float*>(entry.slots[slot]) + begin, length * sizeof(float));
    }
  }
  MOE_FOR_ISA(step_range)(rule, false, addresses, coefficients, 0, length);
  for (int slot = 0; slot < slots; ++slot) {
    const float* wide = scratch.data() + slot * length;
    if (entry.types[slot] == moe::Type::BFloat16) {
      std::copy(wide, wide + length, static_cast<c10::BFloat16*>(entry.slots[slot]) + begin);
    } else {
      std::memcpy(static_cast<float*>(entry.slots[slot]) + begin, wide, length * sizeof(float));
    }
  }
  if (entry.copy != nullptr) {
    std::copy(scratch.data(), scratch.data() + length, static_cast<c10::BFloat16*>(entry.copy) + begin);
  }
}

template <typename Work>
void for_each_block(int64_t count, Work work) {
  moe::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      work(i);
    }
  });
}

#ifdef MOE_CUDA
int64_t chunks_of(const moe::StepEntry& entry) { return (entry.size + moe::kCudaChunk - 1) / moe::kCudaChunk; }

// Entries and numbers of chunks, in one transfer from pinned memory.
struct DeviceTable {
  at::Tensor bytes;
  const moe::StepEntry* entries;
  const int64_t* starts;
  int64_t chunks;
};

// Bytes of the host, put end to end, on their way to the device.
at::Tensor to_device(std::initializer_list<std::pair<const void*, size_t>> parts, c10::Device device) {
  size_t total = 0;
  for (auto& part : parts) {
    total += part.second;
  }
  auto host = at::empty({static_cast<int64_t>(total)}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  auto to = static_cast<char*>(host.data_ptr());
  for (auto& part : parts) {
    if (part.second > 0) {
      std::memcpy(to, part.first, part.second);
      to += part.second;
    }
  }
  return host.to(device, /*non_blocking=*/true);
}

DeviceTable upload(const std::vector<moe::StepEntry>& entries, c10::Device device) {
  std::vector<int64_t> starts(entries.size() + 1);
  for (size_t i = 0; i < entries.size(); ++i) {
    starts[i + 1] = starts[i] + chunks_of(entries[i]);
  }
  size_t entry_bytes = entries.size() * sizeof(moe::StepEntry);
  auto bytes = to_device({{entries.data(), entry_bytes}, {starts.data(), starts.size() * sizeof(int64_t)}}, device);
  auto from = static_cast<const char*>(bytes.data_ptr());
  return {bytes, reinterpret_cast<const moe::StepEntry*>(from), reinterpret_cast<const int64_t*>(from + entry_bytes), starts.back()};
}
#endif

// An update whose tensors are known, but not yet its coefficients: what the host can do of it before a step's gradient is.
struct PreparedUpdate {
  moe::Rule rule;
  RuleShape shape;
  bool wide = false;
  std::vector<moe::StepEntry> entries;
  std::vector<const c10::StorageImpl*> written;
  std::vector<Block> blocks;  // in host memory
  c10::Device device = c10::kCPU;
#ifdef MOE_CUDA
  DeviceTable table;
#endif
};

PreparedUpdate* of(void* prepared) { return static_cast<PreparedUpdate*>(prepared); }

void run_on_device(const PreparedUpdate& update, const double* coefficients, int64_t coefficient_count) {
#ifdef MOE_CUDA
  c10::cuda::CUDAGuard guard(update.device);
  if (update.table.chunks > 0) {
    auto numbers = to_device({{coefficients, coefficient_count * sizeof(double)}}, update.device);
    moe::cuda::step(update.rule, update.wide, update.table.entries, update.table.starts, static_cast<const double*>(numbers.data_ptr()), update.entries.size(),
                    update.table.chunks, moe::stream_of(numbers));
  }
#else
  (void)update, (void)coefficients, (void)coefficient_count;
#endif
}

void run_on_host(const PreparedUpdate& update, const double* coefficients) {
  for_each_block(update.blocks.size(), [&](int64_t i) {
    const auto& block = update.blocks[i];
    const auto& entry = update.entries[block.tensor];
    auto numbers = coefficients + block.tensor * update.shape.coefficients;
    if (has_bfloat16(entry, update.shape.slots)) {
      step_narrow(update.rule, update.shape.slots, entry, numbers, block.begin, block.end);
    } else {
      MOE_FOR_ISA(step_range)(update.rule, update.wide, entry.slots, numbers, block.begin, block.end);
    }
  });
}

at::Tensor squares_on_device(const moe::Handle* tensors, const std::vector<moe::StepEntry>& entries) {
  auto place = moe::borrow(tensors[0]);
#ifdef MOE_CUDA
  c10::cuda::CUDAGuard guard(place.device());
  auto count = entries.size();
  auto noted = moe::noted_squares(tensors, static_cast<int64_t>(count));
  std::vector<int64_t> starts(count + 1);
  for (size_t i = 0; i < count; ++i) {
    starts[i + 1] = starts[i] + (noted[i] ? 0 : chunks_of(entries[i]));
  }
  auto options = at::TensorOptions().dtype(at::kDouble).device(place.device());
  auto partial = at::empty({starts.back()}, options), sums = at::empty({static_cast<int64_t>(count)}, options);
  std::vector<moe::cuda::SquareRange> ranges(count);
  for (size_t i = 0; i < count; ++i) {
    ranges[i] = noted[i] ? moe::cuda::SquareRange{noted[i]->first, noted[i]->count}
                         : moe::cuda::SquareRange{partial.data_ptr<double>() + starts[i], starts[i + 1] - starts[i]};
  }
  size_t entry_bytes = count * sizeof(moe::StepEntry), start_bytes = starts.size() * sizeof(int64_t);
  auto table = to_device({{entries.data(), entry_bytes}, {starts.data(), start_bytes}, {ranges.data(), count * sizeof(moe::cuda::SquareRange)}}, place.device());
  auto from = static_cast<const char*>(table.data_ptr());
  moe::cuda::sum_squares(reinterpret_cast<const moe::StepEntry*>(from), reinterpret_cast<const int64_t*>(from + entry_bytes),
                         reinterpret_cast<const moe::cuda::SquareRange*>(from + entry_bytes + start_bytes), static_cast<int64_t>(count), starts.back(),
                         partial.data_ptr<double>(), sums.data_ptr<double>(), moe::stream_of(place));
  return sums;
#else
  (void)entries;
  moe::stream_of(place);
  return {};
#endif
}

at::Tensor squares_on_host(const moe::Handle* tensors, const std::vector<moe::StepEntry>& entries, bool wide) {
  auto blocks = blocks_of(tensors, static_cast<int64_t>(entries.size()));
  std::vector<double> parts(blocks.size());
  for_each_block(blocks.size(), [&](int64_t i) {
    const auto& block = blocks[i];
    const auto& entry = entries[block.tensor];
    if (entry.types[0] == moe::Type::BFloat16) {
      auto values = static_cast<const c10::BFloat16*>(entry.slots[0]);
      std::vector<float> copy(values + block.begin, values + block.end);
      parts[i] = MOE_FOR_ISA(sum_squares)(false, copy.data(), 0, block.end - block.begin);
    } else {
      parts[i] = MOE_FOR_ISA(sum_squares)(wide, entry.slots[0], block.begin, block.end);
    }
  });
  auto sums = at::zeros({static_cast<int64_t>(entries.size())}, at::TensorOptions().dtype(at::kDouble));
  for (size_t i = 0; i < blocks.size(); ++i) {
    sums.data_ptr<double>()[blocks[i].tensor] += parts[i];
  }
  return sums;
}

}  // namespace

// tensors: [slots, count], those of one slot after one another; all of one device, within one place of the list of one size, and all float64 or each
// float32 or bfloat16. copies: [count] bfloat16 that get the new values rounded, or null for none. The caller keeps the tensors until the update was run.
MOE_EXPORT int32_t moe_optimizer_prepare(int32_t rule, const moe::Handle* tensors, int32_t slots, int64_t count, const moe::Handle* copies, void** prepared) {
  MOE_TRY {
    auto chosen = static_cast<moe::Rule>(rule);
    auto shape = shape_of(chosen);
    TORCH_CHECK(slots == shape.slots, "update rule ", rule, " takes ", shape.slots, " slots, not ", slots);
    auto update = std::make_unique<PreparedUpdate>();
    update->rule = chosen;
    update->shape = shape;
    if (count > 0) {
      update->wide = check_alike(tensors, slots * count);
      TORCH_CHECK(!update->wide || copies == nullptr, "float64 values have no bfloat16 copies");
      update->entries = entries_of(tensors, slots, count, copies);
      update->written = storages_of(shape, tensors, count, copies);
      update->device = moe::borrow(tensors[0]).device();
      if (!update->device.is_cuda()) {
        update->blocks = blocks_of(tensors, count);
      } else {
#ifdef MOE_CUDA
        c10::cuda::CUDAGuard guard(update->device);
        update->table = upload(update->entries, update->device);
#else
        moe::stream_of(moe::borrow(tensors[0]));
#endif
      }
    }
    *prepared = update.release();
  }
  MOE_CATCH
}

// coefficients: [count, coefficients of the rule].
MOE_EXPORT int32_t moe_optimizer_run(void* prepared, const double* coefficients, int64_t coefficient_count) {
  MOE_TRY {
    const auto& update = *of(prepared);
    auto count = static_cast<int64_t>(update.entries.size());
    TORCH_CHECK(coefficient_count == count * update.shape.coefficients, "update rule ", static_cast<int32_t>(update.rule), " takes ", update.shape.coefficients,
                " coefficients a tensor, not ", coefficient_count, " for ", count, " tensors");
    if (update.device.is_cuda()) {
      run_on_device(update, coefficients, coefficient_count);
    } else {
      run_on_host(update, coefficients);
    }
    moe::forget_squares(update.written);
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_optimizer_release(void* prepared) {
  MOE_TRY { delete of(prepared); }
  MOE_CATCH
}

// sums: [count] float64 beside the tensors, of each what the squares of its elements add up to; the same bits whatever the number of threads. tensors: one at least.
MOE_EXPORT int32_t moe_square_sums(const moe::Handle* tensors, int64_t count, moe::Handle* sums) {
  MOE_TRY {
    at::AutoDispatchBelowADInplaceOrView unrecorded;
    TORCH_CHECK(count > 0, "squares of no tensors");
    bool wide = check_alike(tensors, count);
    auto entries = entries_of(tensors, 1, count, nullptr);
    *sums = moe::release(moe::borrow(tensors[0]).is_cuda() ? squares_on_device(tensors, entries) : squares_on_host(tensors, entries, wide));
  }
  MOE_CATCH
}

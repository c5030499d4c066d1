// Gloo groups of libtorch's c10d. Only what 1.13 and 2.x have in common is used.
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <string>
#include <vector>

#include "torch/torch_abi.h"

namespace {

using Store = c10::intrusive_ptr<c10d::Store>;
using Gloo = c10::intrusive_ptr<c10d::ProcessGroupGloo>;
using Work = c10::intrusive_ptr<c10d::Work>;

// Memory that the caller owns and keeps until the work is done.
at::Tensor view_of(const void* data, int64_t count, at::ScalarType type) {
  return at::from_blob(const_cast<void*>(data), {count}, at::TensorOptions().dtype(type));
}

at::Tensor bytes_of(const void* data, int64_t count) { return view_of(data, count, at::kByte); }

int64_t sum(const std::vector<int64_t>& values) {
  int64_t total = 0;
  for (int64_t value : values) {
    total += value;
  }
  return total;
}

c10d::ProcessGroupGloo& members(void* group) { return **static_cast<Gloo*>(group); }

}  // namespace

// Blocks until all `size` ranks came, or throws after the time-out. `prefix` names the group within the store.
// `host`: an address of this machine that the others can reach.
MOE_EXPORT int32_t moe_gloo_create(void* store, const char* prefix, int32_t rank, int32_t size, int64_t timeout_ms, const char* host,
                                   void** group) {
  MOE_TRY {
    auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::milliseconds(timeout_ms));
    options->threads = 1;  // small messages are 5 to 10 times slower with c10d's default of 2 where ranks outnumber cores
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(host));
    auto& shared = *static_cast<Store*>(store);
    shared->setTimeout(std::chrono::milliseconds(timeout_ms));  // the members' addresses are waited for in the store
    auto own = c10::make_intrusive<c10d::PrefixStore>(prefix, shared);
    *group = new Gloo(c10::make_intrusive<c10d::ProcessGroupGloo>(own, rank, size, options));
  }
  MOE_CATCH
}

// Closes the connections, which is how the peers notice at once. Blocks until what is queued has ended.
MOE_EXPORT int32_t moe_gloo_free(void* group) {
  MOE_TRY { delete static_cast<Gloo*>(group); }
  MOE_CATCH
}

// Sizes in bytes, one a rank; both buffers are laid out in the order of the ranks.
MOE_EXPORT int32_t moe_gloo_exchange(void* group, void* output, const int64_t* receive_bytes, const void* input,
                                     const int64_t* send_bytes, void** work) {
  MOE_TRY {
    int size = members(group).getSize();
    std::vector<int64_t> received(receive_bytes, receive_bytes + size);
    std::vector<int64_t> sent(send_bytes, send_bytes + size);
    at::Tensor target = bytes_of(output, sum(received));
    at::Tensor source = bytes_of(input, sum(sent));
    *work = new Work(members(group).alltoall_base(target, source, received, sent));
  }
  MOE_CATCH
}

// output: `bytes` of every rank, in their order.
MOE_EXPORT int32_t moe_gloo_gather(void* group, void* output, const void* input, int64_t bytes, void** work) {
  MOE_TRY {
    std::vector<at::Tensor> source{bytes_of(input, bytes)};
    std::vector<std::vector<at::Tensor>> target(1);
    for (int rank = 0; rank < members(group).getSize(); ++rank) {
      target[0].push_back(bytes_of(static_cast<char*>(output) + rank * bytes, bytes));
    }
    *work = new Work(members(group).allgather(target, source));
  }
  MOE_CATCH
}

// Sums in place. dtype: c10::ScalarType's number.
MOE_EXPORT int32_t moe_gloo_all_reduce(void* group, void* values, int64_t count, int32_t dtype, void** work) {
  MOE_TRY {
    std::vector<at::Tensor> reduced{view_of(values, count, static_cast<at::ScalarType>(dtype))};
    *work = new Work(members(group).allreduce(reduced));
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_gloo_broadcast(void* group, void* values, int64_t bytes, int32_t root, void** work) {
  MOE_TRY {
    std::vector<at::Tensor> sent{bytes_of(values, bytes)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    *work = new Work(members(group).broadcast(sent, options));
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_gloo_barrier(void* group, void** work) {
  MOE_TRY { *work = new Work(members(group).barrier()); }
  MOE_CATCH
}

// A work that failed is done, and says so here by its error.
MOE_EXPORT int32_t moe_work_test(void* work, int32_t* done) {
  MOE_TRY {
    auto& tested = *static_cast<Work*>(work);
    *done = tested->isCompleted() ? 1 : 0;
    if (*done != 0) {
      tested->wait();
    }
  }
  MOE_CATCH
}

// Returns at the latest when the group's time-out ends the work with an error.
MOE_EXPORT int32_t moe_work_wait(void* work) {
  MOE_TRY { (*static_cast<Work*>(work))->wait(); }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_work_free(void* work) {
  MOE_TRY { delete static_cast<Work*>(work); }
  MOE_CATCH
}

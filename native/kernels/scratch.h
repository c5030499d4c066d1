// Work space that a thread keeps for its next call.
#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace moe {

class Scratch {
 public:
  // At least `bytes`, at a multiple of 64; what stood there is of no more use.
  void* of(int64_t bytes) {
    if (bytes > size_) {
      size_ = 0;
      memory_.reset();  // before it is taken anew: the old memory may be needed for it
      memory_.reset(::operator new(bytes, kAlignment));
      size_ = bytes;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Freed {
    void operator()(void* memory) const { ::operator delete(memory, kAlignment); }
  };
  std::unique_ptr<void, Freed> memory_;
  int64_t size_ = 0;
};

}  // namespace moe

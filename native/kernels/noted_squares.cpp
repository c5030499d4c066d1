// A note belongs to a storage: views of the matrices share it, a copy does not, and it goes with the memory. Functions of backward note on another thread than
// the one that asks.
#include "kernels/noted_squares.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <unordered_map>

namespace {

struct Note {
  c10::weak_intrusive_ptr<c10::StorageImpl> storage;
  int64_t offset;
  uint32_t version;
  moe::NotedSquares squares;
};

std::mutex guard;
std::atomic<bool> any{false};  // note: all that a writer asks where no product leaves its squares

std::unordered_map<const c10::StorageImpl*, Note>& notes() {
  static auto all = new std::unordered_map<const c10::StorageImpl*, Note>();  // outlives every other thread's last call
  return *all;
}

const c10::StorageImpl* place_of(const at::Tensor& tensor) { return tensor.storage().unsafeGetStorageImpl(); }

std::optional<moe::SquareParts> parts_of(const at::Tensor& tensor) {
  auto found = notes().find(place_of(tensor));
  if (found == notes().end() || found->second.storage.expired() || tensor.scalar_type() != at::kBFloat16 ||
      static_cast<uint32_t>(tensor._version()) != found->second.version) {
    return std::nullopt;
  }
  const auto& [sums, rows, columns, height, each] = found->second.squares;
  int64_t offset = tensor.storage_offset() - found->second.offset, size = tensor.numel();
  if (size == 0 || offset < 0 || offset % columns != 0 || size % columns != 0) {
    return std::nullopt;
  }
  int64_t begin = offset / columns, end = begin + size / columns;  // in rows of all matrices together
  if (begin % rows % height != 0 || end % rows % height != 0) {
    return std::nullopt;
  }
  int64_t parts = (rows + height - 1) / height;  // of a matrix
  auto before = [&, rows = rows, height = height, each = each](int64_t row) { return (row / rows * parts + row % rows / height) * each; };
  return moe::SquareParts{sums, sums.data_ptr<double>() + before(begin), before(end) - before(begin)};
}

}  // namespace

void moe::note_squares(const at::Tensor& matrices, NotedSquares squares) {
  std::lock_guard<std::mutex> lock(guard);
  for (auto note = notes().begin(); note != notes().end();) {
    note = note->second.storage.expired() ? notes().erase(note) : std::next(note);
  }
  auto storage = matrices.storage();
  Note note{c10::weak_intrusive_ptr<c10::StorageImpl>(storage.getWeakStorageImpl()), matrices.storage_offset(), static_cast<uint32_t>(matrices._version()),
            std::move(squares)};
  notes().insert_or_assign(place_of(matrices), std::move(note));
  any = true;
}

void moe::forget_squares(const std::vector<const c10::StorageImpl*>& written) {
  if (any) {
    std::lock_guard<std::mutex> lock(guard);
    std::for_each(written.begin(), written.end(), [](const c10::StorageImpl* storage) { notes().erase(storage); });
    any = !notes().empty();
  }
}

void moe::forget_squares(const at::Tensor& written) {
  if (any) {
    forget_squares(std::vector{place_of(written)});
  }
}

std::vector<std::optional<moe::SquareParts>> moe::noted_squares(const Handle* tensors, int64_t count) {
  std::lock_guard<std::mutex> lock(guard);
  std::vector<std::optional<SquareParts>> parts(count);
  if (!notes().empty()) {
    std::transform(tensors, tensors + count, parts.begin(), [](Handle tensor) { return parts_of(borrow(tensor)); });
  }
  return parts;
}

// Sums of squares that the product which made a tensor has left beside it, so that the tensor's norm, or that of a part, need not read it again.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "torch/torch_abi.h"

namespace moe {

// Of matrices [groups, rows, columns] without gaps: `each` sums for every `height` rows of a matrix, in order; the last rows of a matrix may be fewer.
struct NotedSquares {
  at::Tensor sums;  // float64, on their device
  int64_t rows;
  int64_t columns;
  int64_t height;
  int64_t each;
};

// Keeps the sums until the matrices' memory is gone and the next are noted. `matrices` are of bfloat16.
void note_squares(const at::Tensor& matrices, NotedSquares squares);

// What the squares of a tensor without gaps add up to, in parts: `count` of them from `first` on, kept by `sums`.
struct SquareParts {
  at::Tensor sums;
  const double* first;
  int64_t count;
};

// Drops what was noted of these storages, which were written by address; they are not looked into.
void forget_squares(const std::vector<const c10::StorageImpl*>& written);
void forget_squares(const at::Tensor& written);

// Of each tensor. Nothing where nothing was noted, it was forgotten, the tensor doesn't end with whole parts, or its memory was written since by libtorch's operators, which
// count (Tensor::_version). Exports write by address: those that may write over what a tensor held before (an optimizer's, moe_scale, moe_sum_rows) forget what was noted of it.
// Collectives forget nothing: none of them is let loose on a product's own memory before its norm was taken. A captured graph notes when it is captured; its replays write
// matrices and sums anew.
std::vector<std::optional<SquareParts>> noted_squares(const Handle* tensors, int64_t count);

}  // namespace moe

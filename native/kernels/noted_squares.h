// Sums of squares that the product which made a tensor has left beside it, so that the tensor's norm, or that of a part, need not read it again.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace moe {

// Of matrices [groups, rows, columns] without gaps: `each` sums for every `height` rows of a matrix, in order; the last rows of a matrix may be fewer.
struct NotedSquares {
  at::Tensor sums;  // float64, on their device
  int64_t rows;
  int64_t columns;
  int64_t height;
  int64_t each;
};

// Keeps the sums as long as the matrices' memory lives.
void note_squares(const at::Tensor& matrices, NotedSquares squares);

// What the squares of a tensor without gaps add up to, in parts: `count` of them from `first` on, kept by `sums`.
struct SquareParts {
  at::Tensor sums;
  const double* first;
  int64_t count;
};

// Nothing where nothing was noted, the tensor doesn't end with whole parts, or its memory was written since, as libtorch counts (Tensor::_version).
std::optional<SquareParts> noted_squares(const at::Tensor& tensor);

}  // namespace moe

// Joins what the ranks of a group sent, in the order of the ranks: the result depends on nothing else.
//
// Reference: result[i] = (...((rows[0][i] op rows[1][i]) op rows[2][i]) ...). The same order here, block by block, so that the
// block of the result stays in the cache while the rows pass by.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "abi.h"

namespace {

constexpr int64_t kBlock = 4096;

// A NaN on either side is the result.
template <typename T>
T larger(T a, T b) {
  return a != a || a > b ? a : b;
}

template <typename T>
T smaller(T a, T b) {
  return a != a || a < b ? a : b;
}

template <typename T, typename Join>
void reduce(T* result, const T* rows, int64_t row_count, int64_t count, Join join) {
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    int64_t length = std::min(kBlock, count - begin);
    T* target = result + begin;
    std::memcpy(target, rows + begin, length * sizeof(T));
    for (int64_t row = 1; row < row_count; ++row) {
      const T* source = rows + row * count + begin;
      for (int64_t i = 0; i < length; ++i) {
        target[i] = join(target[i], source[i]);
      }
    }
  }
}

template <typename T>
void reduce(void* result, const void* rows, int64_t row_count, int64_t count, int32_t operation) {
  auto target = static_cast<T*>(result);
  auto source = static_cast<const T*>(rows);
  switch (operation) {
    case 0:
      return reduce(target, source, row_count, count, [](T a, T b) { return static_cast<T>(a + b); });
    case 1:
      return reduce(target, source, row_count, count, larger<T>);
    case 2:
      return reduce(target, source, row_count, count, smaller<T>);
    default:
      throw std::invalid_argument("reduction " + std::to_string(operation) + " is unknown");
  }
}

}  // namespace

// result: [count], rows: [row_count, count], not overlapping. dtype: c10::ScalarType's number. operation: 0 sum, 1 max, 2 min.
MOE_EXPORT int32_t moe_reduce_rows(void* result, const void* rows, int64_t row_count, int64_t count, int32_t dtype, int32_t operation) {
  MOE_TRY {
    switch (dtype) {
      case 3:
        reduce<int32_t>(result, rows, row_count, count, operation);
        break;
      case 4:
        reduce<int64_t>(result, rows, row_count, count, operation);
        break;
      case 6:
        reduce<float>(result, rows, row_count, count, operation);
        break;
      case 7:
        reduce<double>(result, rows, row_count, count, operation);
        break;
      default:
        throw std::invalid_argument("element type " + std::to_string(dtype) + " cannot be reduced");
    }
  }
  MOE_CATCH
}

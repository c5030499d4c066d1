// Element types as kernels know them, by libtorch's own numbers; no torch header, so that .cu files and the loops of one instruction set can include it.
#pragma once

#include <cstdint>

namespace moe {

enum class Type : int32_t { Int32 = 3, Int64 = 4, Float32 = 6, Float64 = 7, BFloat16 = 15 };

}  // namespace moe

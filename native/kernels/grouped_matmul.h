// What the grouped product needs beside library products.
#pragma once

#include <cstdint>

namespace moe::cuda {

// Zeros over the matrices, `bytes` each (a multiple of 2), of the groups without rows. offsets: [groups], inclusive sums of rows, on the device.
void zero_empty_groups(void* matrices, const int32_t* offsets, int64_t groups, int64_t bytes, void* stream);

}  // namespace moe::cuda

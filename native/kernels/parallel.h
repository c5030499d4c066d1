// Loops over this thread's share of libtorch's threads. ATen/Parallel.h's loop is compiled into its caller, by whose OpenMP it runs: CMakeLists.txt gives one, without
// which it is one thread's. Where libtorch carries an OpenMP of its own, that one alone knows how many threads were asked for.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace moe {

// Calls act(begin, end) for consecutive parts of [begin, end), of `grain` at least where there are several.
template <class Act>
inline void parallel_for(int64_t begin, int64_t end, int64_t grain, const Act& act) {
#ifdef _OPENMP
  if (!omp_in_parallel() && omp_get_max_threads() != at::get_num_threads()) {
    omp_set_num_threads(at::get_num_threads());
  }
#endif
  at::parallel_for(begin, end, grain, act);
}

// Rows of `width` that are worth a thread of their own, where `grain` elements, or bytes, are.
inline int64_t rows_a_thread(int64_t grain, int64_t width) { return std::max<int64_t>(1, grain / std::max<int64_t>(1, width)); }

}  // namespace moe

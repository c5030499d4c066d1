// The instruction set of this processor, for kernels whose loops are compiled once for each: MOE_FOR_ISA(swiglu_forward) is that function's best form.
#pragma once

#include <atomic>

namespace moe {

enum class Isa { Baseline, Avx2, Avx512 };

// The highest whose forms are used: all, unless a test says otherwise (isa.cpp).
inline std::atomic<Isa> highest_isa{Isa::Avx512};

inline Isa isa() {
#if defined(__x86_64__)
  static const Isa best = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") ? Isa::Avx512
                          : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")      ? Isa::Avx2
                                                                                                   : Isa::Baseline;
  Isa highest = highest_isa.load(std::memory_order_relaxed);
  return best < highest ? best : highest;
#else
  return Isa::Baseline;
#endif
}

}  // namespace moe

#if defined(__x86_64__)
#define MOE_FOR_ISA(function) \
  (moe::isa() == moe::Isa::Avx512 ? moe::avx512::function : moe::isa() == moe::Isa::Avx2 ? moe::avx2::function : moe::baseline::function)
#else
#define MOE_FOR_ISA(function) (moe::baseline::function)
#endif

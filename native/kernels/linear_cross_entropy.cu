// Cross-entropy of logits on a GPU: a block a row. A row that fits is copied to shared memory, all of it under way at once (50,304 bfloat16 logits are
// 98 KiB, two blocks of a multiprocessor of 228 KiB), else it is read again, from the second-level cache where that holds the rows of all blocks. The
// first pass keeps a running maximum and sum a thread, the second writes the gradient over the row.
// Bytes a row of V classes of bfloat16 from device memory: 2 V read and 2 V written: at V = 50,304 and 3 TB/s 67 ns.
#include "kernels/elements.cuh"
#include "kernels/linear_cross_entropy.h"

namespace moe::cuda {
namespace {

constexpr int kMostThreads = 1024;
constexpr int kHeldThreads = 512;  // two blocks of a multiprocessor, at 64 registers a thread
constexpr int kThreads = 256;  // of an element-wise kernel

// Starts a copy of 16 bytes into shared memory, for this thread alone to read after await_copies.
__device__ __forceinline__ void copy_vector(uint4* to, const void* from) {
  auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}
__device__ __forceinline__ void await_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// exp(x - most), 1 at the largest. For bfloat16 by the device's quick power of two: a relative error of some 2^-22 + 2^-24 (most - x), where a logit's own rounding changes
// it by up to 2^-9 of the logit. Two whole exponentials an element would take longer than the memory.
template <typename T>
__device__ __forceinline__ work_t<T> weight_of(work_t<T> x, work_t<T> most) {
  if constexpr (std::is_same_v<T, bf16>) {
    constexpr float kLog2E = 1.44269504f;
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"((x - most) * kLog2E));
    return power;
  } else {
    return exponential(x - most);
  }
}

// exp(x - maximum) summed so far; a thread that saw no element has the sum 0.
template <typename T>
struct Running {
  using S = work_t<T>;
  S maximum;
  S sum;

  template <int kWidth>
  __device__ __forceinline__ void add(const S* values) {
    S most = maximum;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      most = values[i] > most ? values[i] : most;
    }
    sum *= sum == S(0) ? S(0) : weight_of<T>(maximum, most);
    S from = most > -static_cast<S>(INFINITY) ? most : S(0);  // where all are of weight 0; one that is no number still shows
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      sum += weight_of<T>(values[i], from);
    }
    maximum = most;
  }
};

// `from` is the row itself, or what is held of it; a thread reads there what it alone has copied.
template <typename T, int kWidth>
__device__ __forceinline__ void write_gradient(T* row, const T* from, int64_t vocabulary, int64_t target, work_t<T> maximum, work_t<T> factor) {
  using S = work_t<T>;
  for (int64_t column = static_cast<int64_t>(threadIdx.x) * kWidth; column < vocabulary; column += static_cast<int64_t>(blockDim.x) * kWidth) {
    S values[kWidth];
    load_elements<T, kWidth>(from + column, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      values[i] = weight_of<T>(values[i], maximum) * factor - (column + i == target ? S(1) : S(0));
    }
    store_elements<T, kWidth>(row + column, values);
  }
}

template <typename N, int kWidth>
__device__ __forceinline__ void write_zeros(N* row, int64_t vocabulary) {
  work_t<N> zeros[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    zeros[i] = 0;
  }
  for (int64_t column = static_cast<int64_t>(threadIdx.x) * kWidth; column < vocabulary; column += static_cast<int64_t>(blockDim.x) * kWidth) {
    store_elements<N, kWidth>(row + column, zeros);
  }
}

// kHeld: dynamic shared memory has a row's size.
template <typename T, int kWidth, bool kHeld>
__global__ void __launch_bounds__(kHeld ? kHeldThreads : kMostThreads) rows(CrossEntropy x) {
  using S = work_t<T>;
  extern __shared__ uint4 held[];
  __shared__ S shared[32];
  int64_t r = blockIdx.x;
  T* row = static_cast<T*>(x.logits) + r * x.vocabulary;
  int64_t target = x.targets[r];
  S* loss = static_cast<S*>(x.losses) + r;
  if (target == kNotCounted) {
    if (threadIdx.x == 0) {
      *loss = 0;
    }
    if (x.gradient) {
      write_zeros<T, kWidth>(row, x.vocabulary);
    }
    return;
  }
  const S none = -static_cast<S>(INFINITY);
  Running<T> running{none, S(0)};
  int64_t first = static_cast<int64_t>(threadIdx.x) * kWidth, step = static_cast<int64_t>(blockDim.x) * kWidth;
  if constexpr (kHeld) {
    for (int64_t column = first; column < x.vocabulary; column += step) {
      copy_vector(held + column / kWidth, row + column);
    }
    await_copies();
  }
  const T* from = kHeld ? reinterpret_cast<const T*>(held) : row;
  for (int64_t column = first; column < x.vocabulary; column += step) {
    S values[kWidth];
    load_elements<T, kWidth>(from + column, values);
    running.template add<kWidth>(values);
  }
  bool known = target >= 0 && target < x.vocabulary;
  S at_target = threadIdx.x == 0 && known ? widened(row[target]) : S(0);  // before the gradient takes its place
  S maximum = block_max(running.maximum, shared);
  S sum = block_sum(running.sum == S(0) ? S(0) : running.sum * weight_of<T>(running.maximum, maximum), shared);
  if (threadIdx.x == 0) {
    *loss = known ? logarithm(sum) + maximum - at_target : static_cast<S>(NAN);
  }
  if (x.gradient) {
    write_gradient<T, kWidth>(row, from, x.vocabulary, target, maximum, S(1) / sum);
  }
}

template <typename S>
__global__ void __launch_bounds__(kMostThreads) sum_all(const S* losses, int64_t count, S* sum) {
  __shared__ double shared[32];
  double total = 0;
  for (int64_t i = threadIdx.x; i < count; i += kMostThreads) {
    total += static_cast<double>(losses[i]);
  }
  total = block_sum(total, shared);
  if (threadIdx.x == 0) {
    *sum = static_cast<S>(total);
  }
}

template <typename T, typename N, int kWidth>
__global__ void __launch_bounds__(kThreads) scale_all(const T* from, const work_t<T>* factor, N* to, int64_t count) {
  int64_t at = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kWidth;
  if (at >= count) {
    return;
  }
  work_t<T> values[kWidth];
  work_t<T> by = *factor;
  load_elements<T, kWidth>(from + at, values);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    values[i] *= by;
  }
  store_elements<N, kWidth>(to + at, values);
}

// Calls act(T(), N()) with the element types of what is read and of what is written.
template <class Act>
void with_both(Type type, Type narrow, Act act) {
  with_type(type, [&](auto element) {
    if constexpr (std::is_same_v<decltype(element), float>) {
      if (narrow == Type::BFloat16) {
        return act(element, bf16{});
      }
    }
    act(element, element);
  });
}

// Whether a block of `kernel` may have this much dynamic shared memory; from then on it may.
template <typename Kernel>
bool can_hold(Kernel kernel, int64_t bytes) {
  constexpr int64_t kMost = 256 << 10;
  if (bytes > kMost) {
    return false;
  }
  bool set = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)) == cudaSuccess;
  if (!set) {
    cudaGetLastError();  // taken: the other form runs instead
  }
  return set;
}

}  // namespace

void cross_entropy(const CrossEntropy& x, void* on) {
  if (x.rows == 0) {
    return;
  }
  with_type(x.type, [&](auto element) {
    using T = decltype(element);
    constexpr int kWidth = kVector<T>;
    auto blocks = static_cast<unsigned>(x.rows);
    bool whole = x.vocabulary % kWidth == 0 && aligned(x.logits);
    int64_t wanted = (x.vocabulary / (whole ? kWidth : 1) + 31) / 32 * 32;
    auto threads = [&](int64_t most) { return static_cast<unsigned>(wanted < 32 ? 32 : wanted < most ? wanted : most); };
    int64_t bytes = x.vocabulary * static_cast<int64_t>(sizeof(T));
    if (whole && x.gradient && can_hold(rows<T, kWidth, true>, bytes)) {
      rows<T, kWidth, true><<<blocks, threads(kHeldThreads), static_cast<size_t>(bytes), stream(on)>>>(x);
    } else if (whole) {
      rows<T, kWidth, false><<<blocks, threads(kMostThreads), 0, stream(on)>>>(x);
    } else {
      rows<T, 1, false><<<blocks, threads(kMostThreads), 0, stream(on)>>>(x);
    }
  });
  check_launch("cross_entropy");
}

void sum_losses(Type type, const void* losses, int64_t count, void* sum, void* on) {
  if (type == Type::Float64) {
    sum_all<<<1, kMostThreads, 0, stream(on)>>>(static_cast<const double*>(losses), count, static_cast<double*>(sum));
  } else {
    sum_all<<<1, kMostThreads, 0, stream(on)>>>(static_cast<const float*>(losses), count, static_cast<float*>(sum));
  }
  check_launch("sum_losses");
}

void scale(const Scale& x, void* on) {
  if (x.count == 0) {
    return;
  }
  with_both(x.from_type, x.to_type, [&](auto wide, auto narrow) {
    using T = decltype(wide);
    using N = decltype(narrow);
    constexpr int kWidth = kVector<N>;
    auto from = static_cast<const T*>(x.from);
    auto to = static_cast<N*>(x.to);
    auto factor = static_cast<const work_t<T>*>(x.factor);
    bool whole = x.count % kWidth == 0 && aligned(x.from, x.to);
    int64_t each = static_cast<int64_t>(kThreads) * (whole ? kWidth : 1);
    auto blocks = static_cast<unsigned>((x.count + each - 1) / each);
    if (whole) {
      scale_all<T, N, kWidth><<<blocks, kThreads, 0, stream(on)>>>(from, factor, to, x.count);
    } else {
      scale_all<T, N, 1><<<blocks, kThreads, 0, stream(on)>>>(from, factor, to, x.count);
    }
  });
  check_launch("scale");
}

}  // namespace moe::cuda

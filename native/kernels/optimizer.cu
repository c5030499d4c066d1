// The CUDA form of the multi-tensor updates: one launch for the whole list. A block of threads finds its tensor by a search over the numbers of
// chunks before it, and steps 2^14 elements, eight a thread at a time where slots are aligned and not float64.
//
// Bytes: those of the slots read and written, 14 a parameter for AdamW in bfloat16, 28 in float32; at 3 TB/s 4.7 and 9.3 ms for a thousand
// million. Compiled without fused multiply-add, so that a float32 step gives the bits of the CPU's. Where a tensor's slots are all bfloat16, a root and a
// quotient to the last bit of a float32 would cost more time than the memory: there they are quick ones (optimizer.cuh).
#include "kernels/cuda.cuh"
#include "kernels/optimizer.cuh"
#include "kernels/optimizer_rules.h"

namespace moe::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8;

// The entry whose chunks include this block's.
__device__ int64_t entry_of(const int64_t* starts, int64_t count, int64_t chunk) {
  int64_t low = 0, high = count;
  while (high - low > 1) {
    int64_t middle = (low + high) / 2;
    (starts[middle] <= chunk ? low : high) = middle;
  }
  return low;
}

template <typename T>
__device__ __forceinline__ T load_one(const void* from, Type type, int64_t at) {
  if constexpr (sizeof(T) == 8) {
    return static_cast<const double*>(from)[at];
  } else {
    return type == Type::BFloat16 ? widened(static_cast<const bf16*>(from)[at]) : static_cast<const float*>(from)[at];
  }
}

template <typename T>
__device__ __forceinline__ void store_one(void* to, Type type, int64_t at, T value) {
  if constexpr (sizeof(T) == 8) {
    static_cast<double*>(to)[at] = value;
  } else if (type == Type::BFloat16) {
    static_cast<bf16*>(to)[at] = narrowed<bf16>::from(value);
  } else {
    static_cast<float*>(to)[at] = value;
  }
}

// Elements [begin, end) of a tensor whose slots are all bfloat16: eights where they are aligned, the next ones under way while a thread works on some, and the rest
// one by one.
template <class R, class Applied>
__device__ __forceinline__ void step_short(const StepEntry& entry, const Applied& rule, int64_t begin, int64_t end) {
  int64_t whole = entry.aligned && entry.copy == nullptr ? begin + (end - begin) / kEach * kEach : begin;
  uint4 next[R::kSlots];
  auto fetch = [&](int64_t at) {
    if (at < whole) {
#pragma unroll
      for (int slot = 0; slot < R::kSlots; ++slot) {
        next[slot] = load_once(static_cast<const bf16*>(entry.slots[slot]) + at);
      }
    }
  };
  int64_t at = begin + threadIdx.x * kEach;
  fetch(at);
  for (; at < whole; at += kThreads * kEach) {
    uint4 raw[R::kSlots];
#pragma unroll
    for (int slot = 0; slot < R::kSlots; ++slot) {
      raw[slot] = next[slot];
    }
    fetch(at + kThreads * kEach);
#pragma unroll
    for (int pair = 0; pair < kEach / 2; ++pair) {
      unsigned slots[R::kSlots];
#pragma unroll
      for (int slot = 0; slot < R::kSlots; ++slot) slots[slot] = reinterpret_cast<const unsigned*>(&raw[slot])[pair];
      step_pair<R>(slots, rule);
#pragma unroll
      for (int slot = 0; slot < R::kSlots; ++slot) reinterpret_cast<unsigned*>(&raw[slot])[pair] = slots[slot];
    }
#pragma unroll
    for (int slot = 0; slot < R::kSlots; ++slot) {
      if ((R::kWritten >> slot & 1) != 0) {
        __stcs(reinterpret_cast<uint4*>(static_cast<bf16*>(entry.slots[slot]) + at), raw[slot]);
      }
    }
  }
  for (at = whole + threadIdx.x; at < end; at += kThreads) {
    Quick x[kMostSlots];
#pragma unroll
    for (int slot = 0; slot < R::kSlots; ++slot) x[slot].value = widened(static_cast<const bf16*>(entry.slots[slot])[at]);
    rule.apply(x);
#pragma unroll
    for (int slot = 0; slot < R::kSlots; ++slot) {
      if ((R::kWritten >> slot & 1) != 0) static_cast<bf16*>(entry.slots[slot])[at] = narrowed<bf16>::from(x[slot].value);
    }
    if (entry.copy != nullptr) static_cast<bf16*>(entry.copy)[at] = narrowed<bf16>::from(x[0].value);
  }
}

// Eight elements of a slot as they stand in memory: float32 in both parts, bfloat16 in the first.
struct Eight {
  uint4 first, second;
};

__device__ __forceinline__ Eight load_eight(const void* from, Type type, int64_t at) {
  if (type == Type::BFloat16) {
    return {load_once(static_cast<const bf16*>(from) + at), {}};
  }
  return {load_once(static_cast<const float*>(from) + at), load_once(static_cast<const float*>(from) + at + 4)};
}

__device__ __forceinline__ void widen_eight(const Eight& raw, Type type, float* to) {
  if (type == Type::BFloat16) {
    widen_vector<bf16>(raw.first, to);
  } else {
    widen_vector<float>(raw.first, to);
    widen_vector<float>(raw.second, to + 4);
  }
}

__device__ __forceinline__ void store_eight(void* to, Type type, int64_t at, const float* from) {
  if (type == Type::BFloat16) {
    store_once(static_cast<bf16*>(to) + at, from);
  } else {
    store_once(static_cast<float*>(to) + at, from);
    store_once(static_cast<float*>(to) + at + 4, from + 4);
  }
}

// Elements [begin, end) of a tensor of float32, some of whose slots may be bfloat16, by eights, with the next ones under way as above.
// Returns the first that is left.
template <class R>
__device__ __forceinline__ int64_t step_eights(const StepEntry& entry, const float* c, int64_t begin, int64_t end) {
  int64_t whole = begin + (end - begin) / kEach * kEach;
  Eight next[R::kSlots];
  auto fetch = [&](int64_t at) {
    if (at < whole) {
#pragma unroll
      for (int slot = 0; slot < R::kSlots; ++slot) next[slot] = load_eight(entry.slots[slot], entry.types[slot], at);
    }
  };
  int64_t at = begin + threadIdx.x * kEach;
  fetch(at);
  for (; at < whole; at += kThreads * kEach) {
    float eight[R::kSlots][kEach];
#pragma unroll
    for (int slot = 0; slot < R::kSlots; ++slot) widen_eight(next[slot], entry.types[slot], eight[slot]);
    fetch(at + kThreads * kEach);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      float x[kMostSlots];
#pragma unroll
      for (int slot = 0; slot < R::kSlots; ++slot) x[slot] = eight[slot][i];
      R::apply(x, c);
#pragma unroll
      for (int slot = 0; slot < R::kSlots; ++slot) eight[slot][i] = x[slot];
    }
#pragma unroll
    for (int slot = 0; slot < R::kSlots; ++slot) {
      if ((R::kWritten >> slot & 1) != 0) store_eight(entry.slots[slot], entry.types[slot], at, eight[slot]);
    }
    if (entry.copy != nullptr) store_vector(static_cast<bf16*>(entry.copy) + at, eight[0]);
  }
  return whole;
}

template <class R, typename T>
__global__ void __launch_bounds__(kThreads) step_kernel(const StepEntry* entries, const int64_t* starts, const double* coefficients, int64_t count) {
  __shared__ StepEntry entry;
  __shared__ int64_t which;
  if (threadIdx.x == 0) {
    which = entry_of(starts, count, blockIdx.x);
    entry = entries[which];
  }
  __syncthreads();
  T c[R::kCoefficients];
#pragma unroll
  for (int i = 0; i < R::kCoefficients; ++i) {
    c[i] = static_cast<T>(coefficients[which * R::kCoefficients + i]);
  }
  int64_t begin = (blockIdx.x - starts[which]) * kCudaChunk;
  int64_t end = begin + kCudaChunk < entry.size ? begin + kCudaChunk : entry.size;
  if constexpr (sizeof(T) == 4) {
    bool is_short = true;
#pragma unroll
    for (int slot = 0; slot < R::kSlots; ++slot) {
      is_short = is_short && entry.types[slot] == Type::BFloat16;
    }
    if (is_short) {
      auto number = [&](int i) { return c[i]; };
      if constexpr (is_adam<R>) {
        if (c[R::kCoupledDecay] == 0) {
          step_short<R>(entry, ShortAdam<R::kSlots == 5>(number), begin, end);
          return;
        }
      }
      step_short<R>(entry, ShortRule<R>(number), begin, end);
      return;
    }
    if (entry.aligned) {
      begin = step_eights<R>(entry, c, begin, end);
    }
  }
  for (int64_t at = begin + threadIdx.x; at < end; at += kThreads) {
    T x[kMostSlots];
#pragma unroll
    for (int slot = 0; slot < R::kSlots; ++slot) x[slot] = load_one<T>(entry.slots[slot], entry.types[slot], at);
    R::apply(x, c);
#pragma unroll
    for (int slot = 0; slot < R::kSlots; ++slot) {
      if ((R::kWritten >> slot & 1) != 0) store_one<T>(entry.slots[slot], entry.types[slot], at, x[slot]);
    }
    if (entry.copy != nullptr) store_one<T>(entry.copy, Type::BFloat16, at, x[0]);
  }
}

// Adds the squares of the elements of a vector.
template <typename T>
__device__ __forceinline__ void add_squares(const uint4& raw, double& sum) {
  float values[kVector<T>];
  widen_vector<T>(raw, values);
#pragma unroll
  for (int i = 0; i < kVector<T>; ++i) sum += static_cast<double>(values[i]) * values[i];
}

// Squares of bfloat16 are exact in float32; eight are added there with what each addition rounds off beside them (Knuth's two-sum), and both sums go on in double:
// a Hopper converts sixteen numbers to double a cycle and multiprocessor, too few for each element. Where squares leave float32's range, elements are.
template <>
__device__ __forceinline__ void add_squares<bf16>(const uint4& raw, double& sum) {
  float eight[kVector<bf16>];
  widen_vector<bf16>(raw, eight);
  float squares = 0, lost = 0;
#pragma unroll
  for (int i = 0; i < kVector<bf16>; ++i) {
    float square = eight[i] * eight[i], next = squares + square, added = next - squares;
    lost += (squares - (next - added)) + (square - added);
    squares = next;
  }
  if (squares > 1e-24f && squares < 1e36f) {
    sum += static_cast<double>(squares) + lost;
  } else if (((raw.x | raw.y | raw.z | raw.w) & 0x7fff7fffu) != 0) {
#pragma unroll
    for (int i = 0; i < kVector<bf16>; ++i) sum += static_cast<double>(eight[i]) * eight[i];
  }
}

// Adds the squares of elements [begin, end) to `sum`, as far as whole rounds of the block go; the result is where they end. Several vectors of a thread are
// under way before the first is added: one at a time leaves a fast memory waiting.
template <typename T>
__device__ __forceinline__ int64_t add_whole_rounds(const void* values, int64_t begin, int64_t end, double& sum) {
  constexpr int kFlight = 4;
  constexpr int64_t kStep = static_cast<int64_t>(kThreads) * kVector<T>;
  int64_t whole = begin + (end - begin) / (kFlight * kStep) * (kFlight * kStep);
  for (int64_t at = begin + threadIdx.x * kVector<T>; at < whole; at += kFlight * kStep) {
    uint4 raw[kFlight];
#pragma unroll
    for (int f = 0; f < kFlight; ++f) {
      raw[f] = load_once(static_cast<const T*>(values) + at + f * kStep);
    }
#pragma unroll
    for (int f = 0; f < kFlight; ++f) {
      add_squares<T>(raw[f], sum);
    }
  }
  return whole;
}

__global__ void __launch_bounds__(kThreads) squares_kernel(const StepEntry* entries, const int64_t* starts, int64_t count, double* partial) {
  __shared__ StepEntry entry;
  __shared__ int64_t which;
  __shared__ double shared[32];
  if (threadIdx.x == 0) {
    which = entry_of(starts, count, blockIdx.x);
    entry = entries[which];
  }
  __syncthreads();
  int64_t begin = (blockIdx.x - starts[which]) * kCudaChunk;
  int64_t end = begin + kCudaChunk < entry.size ? begin + kCudaChunk : entry.size;
  double sum = 0;
  if (entry.types[0] == Type::BFloat16 && entry.aligned) {
    begin = add_whole_rounds<bf16>(entry.slots[0], begin, end, sum);
  } else if (entry.types[0] == Type::Float32 && entry.aligned) {
    begin = add_whole_rounds<float>(entry.slots[0], begin, end, sum);
  }
  for (int64_t at = begin + threadIdx.x * kEach; at < end; at += kThreads * kEach) {
    for (int64_t i = at; i < at + kEach && i < end; ++i) {
      double value = entry.types[0] == Type::Float64 ? load_one<double>(entry.slots[0], entry.types[0], i) : load_one<float>(entry.slots[0], entry.types[0], i);
      sum += value * value;
    }
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block a tensor: each thread adds every 256th part, then the threads' sums are joined.
__global__ void __launch_bounds__(kThreads) join_kernel(const SquareRange* ranges, double* squares) {
  __shared__ double shared[32];
  SquareRange parts = ranges[blockIdx.x];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < parts.count; i += kThreads) {
    sum += parts.first[i];
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

}  // namespace

void step(Rule rule, bool wide, const StepEntry* entries, const int64_t* starts, const double* coefficients, int64_t count, int64_t chunks, void* handle) {
  rules::with(rule, [&](auto r) {
    using R = decltype(r);
    if (wide) {
      step_kernel<R, double><<<static_cast<unsigned>(chunks), kThreads, 0, stream(handle)>>>(entries, starts, coefficients, count);
    } else {
      step_kernel<R, float><<<static_cast<unsigned>(chunks), kThreads, 0, stream(handle)>>>(entries, starts, coefficients, count);
    }
  });
  check_launch("optimizer step");
}

void sum_squares(const StepEntry* entries, const int64_t* starts, const SquareRange* ranges, int64_t count, int64_t chunks, double* partial, double* squares,
                 void* handle) {
  if (chunks > 0) {
    squares_kernel<<<static_cast<unsigned>(chunks), kThreads, 0, stream(handle)>>>(entries, starts, count, partial);
  }
  join_kernel<<<static_cast<unsigned>(count), kThreads, 0, stream(handle)>>>(ranges, squares);
  check_launch("sums of squares");
}

}  // namespace moe::cuda

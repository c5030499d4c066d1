// What tiles of bfloat16 products are made of, from compute capability 8.0 on: copies to shared memory that run beside the work, 8 x 8 matrices from there
// into registers, and m16n8k16 products with float32 sums.
//
// Fragments, with g = lane / 4 and t = lane % 4: of A [16, 16] register 0 holds row g, columns 2t and 2t + 1; register 1 row g + 8; registers 2 and 3 the same,
// eight columns on. Of B [16, 8] register 0 holds rows 2t and 2t + 1 of column g; register 1 eight rows on. Of the sums [16, 8] 0 and 1 are row g, columns 2t and
// 2t + 1; 2 and 3 row g + 8.
#pragma once

#include "kernels/cuda.cuh"

namespace moe::cuda {

constexpr int kChunk = 8;  // bfloat16 elements in 16 bytes, what a copy and a row of an 8 x 8 matrix have

// Where chunk `chunk` of row `row` stands in a tile whose rows are a multiple of eight chunks: eight rows have the same chunk in different banks.
__device__ __forceinline__ int swizzled(int row, int chunk, int chunks_a_row) { return row * chunks_a_row + (chunk ^ (row & 7)); }

// 16 bytes, or zeros where they are not there: `from` is not touched then, and may be any address.
__device__ __forceinline__ void copy_async(uint4* to, const void* from, bool there) {
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(there ? 16 : 0) : "memory");
}

__device__ __forceinline__ void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all but the last kOpen groups of this thread's copies.
template <int kOpen>
__device__ __forceinline__ void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kOpen) : "memory");
}

// Four 8 x 8 matrices: lane l gives the address of row l % 8 of matrix l / 8, and gets row g, columns 2t and 2t + 1 of each.
__device__ __forceinline__ void load_matrices(const uint4* row, unsigned (&to)[4]) {
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

// The same of their transposes: rows 2t and 2t + 1 of column g.
__device__ __forceinline__ void load_transposed(const uint4* row, unsigned (&to)[4]) {
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

// sums += a b.
__device__ __forceinline__ void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two numbers rounded to nearest, ties to even, the first in the lower half.
__device__ __forceinline__ unsigned narrow_pair(float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// Lets a kernel have more shared memory than the 48 KiB that every one may.
inline void allow_shared(const void* kernel, size_t bytes, const char* name) {
  cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(name) + ": " + cudaGetErrorString(status));
  }
}

}  // namespace moe::cuda

// What only Hopper's multiprocessors have (compute capability 9.0a), a function an instruction: barriers in shared memory that count bytes, copies of
// boxes of a tensor, and matrix products of a warpgroup out of shared memory. Addresses of shared memory are 32 bits wide.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace moe::cuda::hopper {

__device__ __forceinline__ uint32_t shared_address(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

__device__ __forceinline__ uint32_t cluster_rank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// All threads of the cluster.
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
}

__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes initialized barriers known to the cluster; cluster_sync() follows.
__device__ __forceinline__ void barrier_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// One arrival, and `bytes` more to wait for.
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// One arrival at the barrier that stands at the same place in the cluster's block `rank`. It orders no accesses beyond the block: a scope of the cluster
// would stand for a fence of all that the thread has under way.
__device__ __forceinline__ void barrier_arrive(uint32_t barrier, uint32_t rank) {
  asm volatile(
      "{\n\t"
      ".reg .b32 there;\n\t"
      "mapa.shared::cluster.u32 there, %0, %1;\n\t"
      "mbarrier.arrive.shared::cluster.b64 _, [there];\n\t"
      "}" ::"r"(barrier),
      "r"(rank)
      : "memory");
}

// Until the barrier's phase of this parity is complete; what was counted at it is there.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
  asm volatile(
      "{\n\t"
      ".reg .pred done;\n\t"
      "again:\n\t"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t"
      "@!done bra again;\n\t"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// A number into the shared memory of the cluster's block `rank`, at the same place; its four bytes count at the barrier at the same place there.
__device__ __forceinline__ void send(uint32_t address, uint32_t barrier, uint32_t rank, int value) {
  asm volatile(
      "{\n\t"
      ".reg .b32 there, counted;\n\t"
      "mapa.shared::cluster.u32 there, %0, %2;\n\t"
      "mapa.shared::cluster.u32 counted, %1, %2;\n\t"
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.s32 [there], %3, [counted];\n\t"
      "}" ::"r"(address),
      "r"(barrier), "r"(rank), "r"(value)
      : "memory");
}

__device__ __forceinline__ int load_shared(uint32_t address) {
  int value;
  asm volatile("ld.shared::cta.s32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

__device__ __forceinline__ uint4 load_shared_vector(uint32_t address) {
  uint4 value;
  asm volatile("ld.shared::cta.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w) : "r"(address) : "memory");
  return value;
}

// What this thread wrote to shared memory is seen by copies of boxes and by matrix products that it starts, or lets start, from here on.
__device__ __forceinline__ void fence_for_copies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(&map)) : "memory");
}

// Gives the second dimension of a map in device memory another size, and lets other threads of the device see it.
__device__ __forceinline__ void resize_map(CUtensorMap* map, uint32_t size) {
  asm volatile("tensormap.replace.tile.global_dim.global.b1024.b32 [%0], 1, %1;" ::"l"(__cvta_generic_to_global(map)), "r"(size) : "memory");
  asm volatile("fence.proxy.tensormap::generic.release.gpu;" ::: "memory");
}

// Before copies by a map that was changed in device memory.
__device__ __forceinline__ void acquire_map(const CUtensorMap* map) {
  asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(reinterpret_cast<uint64_t>(map)) : "memory");
}

// A box of a tensor with three dimensions, innermost coordinate first, into shared memory; its bytes count at `barrier`. Beyond the tensor it is zero.
__device__ __forceinline__ void load_box(uint32_t to, const CUtensorMap& map, uint32_t barrier, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
               "l"(reinterpret_cast<uint64_t>(&map)), "r"(barrier), "r"(x), "r"(y), "r"(z)
               : "memory");
}

// The same into every block of the cluster that has its bit in `blocks`, at the same place, counted at the barrier at the same place.
__device__ __forceinline__ void load_box(uint32_t to, const CUtensorMap& map, uint32_t barrier, int x, int y, int z, uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(barrier), "r"(x), "r"(y), "r"(z), "h"(blocks)
      : "memory");
}

// A box from shared memory; what lies beyond the tensor is left out.
__device__ __forceinline__ void store_box(const CUtensorMap& map, uint32_t from, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(reinterpret_cast<uint64_t>(&map)), "r"(from),
               "r"(x), "r"(y), "r"(z)
               : "memory");
}

// The boxes that this thread stored since the last call are a group, and none may be.
__device__ __forceinline__ void stores_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Until at most kLeft of this thread's groups of stores have not yet read their shared memory.
template <int kLeft>
__device__ __forceinline__ void stores_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kLeft) : "memory");
}

__device__ __forceinline__ void stores_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

// Four matrices of 8 x 8 16-bit elements: lane 8 i + j has the address of row j of matrix i, and each register two elements of a row, as a product leaves them.
__device__ __forceinline__ void store_matrices(uint32_t address, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}

// The same four matrices from there.
__device__ __forceinline__ void load_matrices(uint32_t address, uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(address) : "memory");
}

template <int kRegisters>
__device__ __forceinline__ void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// A factor in shared memory, 128-byte rows whose 16-byte pieces are exchanged by the row's number modulo 8, as copies of boxes lay them.
// `groups`: bytes between 8 rows and the next 8. `pieces`: bytes between boxes of 64 columns beside one another; counts where the rows run along the sum.
__device__ __forceinline__ uint64_t factor(uint32_t address, uint32_t groups, uint32_t pieces) {
  return static_cast<uint64_t>((address & 0x3ffff) >> 4) | static_cast<uint64_t>(pieces >> 4) << 16 | static_cast<uint64_t>(groups >> 4) << 32 | 1ull << 62;
}

// Before the first product, and before every one that follows other accesses to its sums.
__device__ __forceinline__ void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Until at most kLeft of the committed groups are unfinished.
template <int kLeft>
__device__ __forceinline__ void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}

#define MOE_SUMS_8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define MOE_SUMS_32(i) MOE_SUMS_8(i), MOE_SUMS_8(i + 8), MOE_SUMS_8(i + 16), MOE_SUMS_8(i + 24)

// d [64, 256] (+)= a [64, 16] b [16, 256], queued. kAcross: 0 where a factor's rows in shared memory run along the sum's index, 1 where they run across it.
// Of d a thread has, in row 16 w + l / 4 (w its warp in the group, l its lane) and the row 8 below it, columns 8 j + 2 (l % 4) and the next:
// d[4 j], d[4 j + 1], and d[4 j + 2], d[4 j + 3].
template <int kAcrossA, int kAcrossB>
__device__ __forceinline__ void multiply_64x256x16(float (&d)[128], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n\t"
      ".reg .pred add;\n\t"
      "setp.ne.b32 add, %130, 0;\n\t"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
      "%128, %129, add, 1, 1, %131, %132;\n\t"
      "}"
      : MOE_SUMS_32(0), MOE_SUMS_32(32), MOE_SUMS_32(64), MOE_SUMS_32(96)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(kAcrossA), "n"(kAcrossB));
}

// The sums are not touched before this point: what reads them stands behind the wait for their products.
__device__ __forceinline__ void hold(float (&d)[128]) {
#pragma unroll
  for (int i = 0; i < 128; i += 32) {
    asm volatile("" : MOE_SUMS_32(i)::"memory");
  }
}

#undef MOE_SUMS_32
#undef MOE_SUMS_8

}  // namespace moe::cuda::hopper

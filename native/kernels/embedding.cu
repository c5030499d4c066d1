// The gradient of an embedding's table on a GPU: each of its rows is written once, whatever the tokens.
//
// Places are counted by token, tokens get room for theirs, and places are written there: by atomics on integers, in no particular order, which what reads them
// restores. A block has eight rows of the table and writes zeros or the sum of up to 32 arrived rows; their places are taken smallest first from the lanes of a
// warp. A token that occurs more often is summed in pieces of 128 places, which other blocks of the same kernel work, and the pieces are added in their order. A
// piece's places are those of its ranks in a set of bits, one for each place that the token has: however often a token occurs, and whoever works it, the order
// of its sum is that of its places, cut at every 128th.
//
// Bytes, bfloat16 with T = 16,384, V = 50,304 and D = 2048: 64 MiB read and 197 MiB written, 91 us at 3 TB/s. Counting and placing move 0.6 MiB in four launches
// of a few us. A token of 10,000 places is 79 pieces, each some 30 us on a multiprocessor beside the other rows, and then the sum of 79 rows, some 15 us.
#include <climits>

#include "kernels/elements.cuh"
#include "kernels/embedding.h"

namespace moe::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 8;                // of the table, that a block has
constexpr int kShort = 32;              // most places of a token that is summed at once
constexpr int kPiece = 128;             // places of a piece
constexpr int kPieceBlocks = 264;       // two for each multiprocessor of the largest Hopper
constexpr int kAhead = 4;               // rows that a thread loads before it adds them
constexpr int kWindowWords = 8 * 1024;  // of the set of bits: 262,144 places at a time
constexpr int kJoinThreads = 64;
constexpr int kJoinBlocks = 64;

// What is counted and where it is, in the workspace. Three counters and `counts` start at zero.
struct Places {
  int* taken;         // places that have room so far
  int* longs;         // tokens of more than kShort places
  int* pieces;        // of those
  int* counts;        // [V]
  int* first;         // [V]: where a token's places start in `order`
  int* arrival;       // [T]: number of a place among its token's, in no particular order; -1 of one that is left out
  int* order;         // [T]: places by token
  int2* long_tokens;  // token, first piece
  int2* long_pieces;  // token, number of the piece among its token's
  void* sums;         // [pieces, D] of the work type
};

// More pieces there can't be: a token of 33 places has one, one of 129 has two.
int64_t most_pieces(int64_t places) { return places / (kShort + 1); }

int64_t words_before_pieces(const EmbeddingGradient& x) { return (4 + 2 * x.vocabulary + 2 * x.places + 3) / 4 * 4; }

Places places_in(void* workspace, const EmbeddingGradient& x) {
  int* words = static_cast<int*>(workspace);
  int2* pairs = reinterpret_cast<int2*>(words + words_before_pieces(x));
  int* counts = words + 4;
  int* first = counts + x.vocabulary;
  int* arrival = first + x.vocabulary;
  int64_t most = (most_pieces(x.places) + 1) / 2 * 2;  // a multiple of 16 bytes
  return {words, words + 1, words + 2, counts, first, arrival, arrival + x.places, pairs, pairs + most, pairs + 2 * most};
}

__global__ void __launch_bounds__(kThreads) count_places(const int64_t* tokens, int64_t places, int64_t vocabulary, Places p) {
  int64_t place = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  int64_t id = place < places ? tokens[place] : -1;
  int token = id >= 0 && id < vocabulary ? static_cast<int>(id) : -1;
  int lane = threadIdx.x & 31;
  unsigned alike = __match_any_sync(0xffffffffu, token);  // one atomic for them: a token may be most of the batch
  int leader = __ffs(static_cast<int>(alike)) - 1;
  int start = 0;
  if (lane == leader && token >= 0) {
    start = atomicAdd(p.counts + token, __popc(alike));
  }
  start = __shfl_sync(0xffffffffu, start, leader);
  if (place < places) {
    p.arrival[place] = token >= 0 ? start + __popc(alike & ((1u << lane) - 1u)) : -1;
  }
}

// The sum over the threads before this one, and over all. warp_totals: 32 numbers, free again after the call.
__device__ __forceinline__ int sum_before(int x, int* warp_totals, int& total) {
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  int sum = warp_running_sum(x);
  if (lane == 31) {
    warp_totals[warp] = sum;
  }
  __syncthreads();
  int before = 0;
  total = 0;
  for (int w = 0; w < warps; ++w) {
    before += w < warp ? warp_totals[w] : 0;
    total += warp_totals[w];
  }
  __syncthreads();
  return before + sum - x;
}

// A thread a token. Where a token's places and pieces stand depends on which block comes first; what is read there doesn't.
__global__ void __launch_bounds__(kThreads) make_room(int64_t vocabulary, Places p) {
  __shared__ int warp_totals[32];
  __shared__ int start;
  int64_t token = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  int count = token < vocabulary ? p.counts[token] : 0;
  int total;
  int before = sum_before(count, warp_totals, total);
  if (threadIdx.x == 0) {
    start = atomicAdd(p.taken, total);
  }
  __syncthreads();
  if (token < vocabulary) {
    p.first[token] = start + before;
  }
  if (count > kShort) {
    int pieces = (count + kPiece - 1) / kPiece;
    int piece = atomicAdd(p.pieces, pieces);
    p.long_tokens[atomicAdd(p.longs, 1)] = make_int2(static_cast<int>(token), piece);
    for (int i = 0; i < pieces; ++i) {
      p.long_pieces[piece + i] = make_int2(static_cast<int>(token), i);
    }
  }
}

__global__ void __launch_bounds__(kThreads) put_places(const int64_t* tokens, int64_t places, Places p) {
  int64_t place = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (place < places && p.arrival[place] >= 0) {
    p.order[p.first[tokens[place]] + p.arrival[place]] = static_cast<int>(place);
  }
}

// kWidth elements of a row: 16 bytes, or one element where a row doesn't divide by them.
template <typename T, int kWidth>
using Held = std::conditional_t<kWidth == 1, T, uint4>;

// Adds kAhead rows, those of negative places left out. Their loads don't wait for one another; the sum is in their order.
template <typename T, int kWidth>
__device__ __forceinline__ void add_rows(const T* arriving, int64_t width, const int (&places)[kAhead], work_t<T> (&sum)[kWidth]) {
  Held<T, kWidth> held[kAhead];
#pragma unroll
  for (int j = 0; j < kAhead; ++j) {
    if (places[j] >= 0) {
      held[j] = *reinterpret_cast<const Held<T, kWidth>*>(arriving + places[j] * width);
    }
  }
#pragma unroll
  for (int j = 0; j < kAhead; ++j) {
    if (places[j] >= 0) {
      work_t<T> row[kWidth];
      if constexpr (kWidth == 1) {
        row[0] = widened(held[j]);
      } else {
        widen_vector<T>(held[j], row);
      }
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        sum[i] += row[i];
      }
    }
  }
}

// The places of ranks [low, high) among a token's, ascending. bits: room for `window` words.
__device__ void restore_order(const int* places, int count, int low, int high, int64_t limit, unsigned* bits, int window, int* warp_totals, int* to) {
  int before = 0;  // of earlier windows
  for (int64_t start = 0; start < limit && before < high; start += static_cast<int64_t>(window) * 32) {
    for (int word = threadIdx.x; word < window; word += blockDim.x) {
      bits[word] = 0;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      int64_t at = places[i] - start;
      if (at >= 0 && at < static_cast<int64_t>(window) * 32) {
        atomicOr(bits + at / 32, 1u << (at % 32));
      }
    }
    __syncthreads();
    int each = (window + static_cast<int>(blockDim.x) - 1) / static_cast<int>(blockDim.x);
    int first = threadIdx.x * each, last = first + each < window ? first + each : window;
    int own = 0, total;
    for (int word = first; word < last; ++word) {
      own += __popc(bits[word]);
    }
    int rank = before + sum_before(own, warp_totals, total);
    for (int word = first; word < last && rank < high; ++word) {
      for (unsigned left = bits[word]; left != 0; left &= left - 1) {
        if (rank >= low && rank < high) {
          to[rank - low] = static_cast<int>(start + word * 32 + __ffs(static_cast<int>(left)) - 1);
        }
        ++rank;
      }
    }
    before += total;
    __syncthreads();
  }
}

template <typename T, int kWidth>
__device__ void sum_piece(const EmbeddingGradient& x, const Places& p, int piece, unsigned* bits, int window) {
  using W = work_t<T>;
  __shared__ int warp_totals[32];
  __shared__ int places[kPiece];
  int token = p.long_pieces[piece].x, low = p.long_pieces[piece].y * kPiece;
  int count = p.counts[token], high = low + kPiece < count ? low + kPiece : count;
  restore_order(p.order + p.first[token], count, low, high, x.places, bits, window, warp_totals, places);
  for (int64_t column = static_cast<int64_t>(threadIdx.x) * kWidth; column < x.width; column += static_cast<int64_t>(blockDim.x) * kWidth) {
    W sum[kWidth] = {};
    for (int first = 0; first < high - low; first += kAhead) {
      int next[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        next[j] = first + j < high - low ? places[first + j] : -1;
      }
      add_rows<T, kWidth>(static_cast<const T*>(x.arriving) + column, x.width, next, sum);
    }
    store_elements<W, kWidth>(static_cast<W*>(p.sums) + piece * x.width + column, sum);
  }
  __syncthreads();  // the next piece's places come to where this one's were
}

// Blocks before `piece_blocks` work pieces, so that these start first; the others have kRows rows of the table each.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) sum_rows(EmbeddingGradient x, Places p, int piece_blocks, int window) {
  using W = work_t<T>;
  extern __shared__ unsigned bits[];
  if (static_cast<int>(blockIdx.x) < piece_blocks) {
    for (int piece = blockIdx.x; piece < *p.pieces; piece += piece_blocks) {
      sum_piece<T, kWidth>(x, p, piece, bits, window);
    }
    return;
  }
  int64_t first_row = static_cast<int64_t>(blockIdx.x - piece_blocks) * kRows;
  int lane = threadIdx.x & 31;
  int counts[kRows];
  unsigned lanes[kRows];  // this lane's place of each row
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    counts[r] = first_row + r < x.vocabulary ? p.counts[first_row + r] : kShort + 1;
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    lanes[r] = counts[r] <= kShort && lane < counts[r] ? static_cast<unsigned>(p.order[p.first[first_row + r] + lane]) : UINT_MAX;
  }
#pragma unroll 1
  for (int r = 0; r < kRows; ++r) {
    int count = counts[0];
    unsigned own = lanes[0];
#pragma unroll
    for (int i = 1; i < kRows; ++i) {  // the next row's come to the front: registers have no index
      counts[i - 1] = counts[i];
      lanes[i - 1] = lanes[i];
    }
    if (count > kShort) {
      continue;
    }
    T* to = static_cast<T*>(x.gradient) + (first_row + r) * x.width;
    for (int64_t start = 0; start < x.width; start += static_cast<int64_t>(blockDim.x) * kWidth) {  // whole warps: they take places together
      int64_t column = start + static_cast<int64_t>(threadIdx.x) * kWidth;
      unsigned left = own;
      W sum[kWidth] = {};
      for (int taken = 0; taken < count; taken += kAhead) {
        int next[kAhead];
#pragma unroll
        for (int j = 0; j < kAhead; ++j) {
          unsigned smallest = __reduce_min_sync(0xffffffffu, left);
          left = left == smallest ? UINT_MAX : left;
          next[j] = column < x.width ? static_cast<int>(smallest) : -1;  // UINT_MAX, when none is left, is negative too
        }
        add_rows<T, kWidth>(static_cast<const T*>(x.arriving) + column, x.width, next, sum);
      }
      if (column < x.width) {
        if constexpr (kWidth == 1) {
          to[column] = narrowed<T>::from(sum[0]);
        } else {
          store_once(to + column, sum);
        }
      }
    }
  }
}

// A long token's pieces, first to last. blockIdx.x: columns.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kJoinThreads) join_pieces(EmbeddingGradient x, Places p) {
  using W = work_t<T>;
  int64_t column = (static_cast<int64_t>(blockIdx.x) * kJoinThreads + threadIdx.x) * kWidth;
  if (column >= x.width) {
    return;
  }
  for (int at = blockIdx.y; at < *p.longs; at += gridDim.y) {
    int token = p.long_tokens[at].x, pieces = (p.counts[token] + kPiece - 1) / kPiece;
    const W* from = static_cast<const W*>(p.sums) + p.long_tokens[at].y * x.width + column;
    W sum[kWidth] = {};
    for (int first = 0; first < pieces; first += kAhead) {
      W terms[kAhead][kWidth];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        if (first + j < pieces) {
          load_elements<W, kWidth>(from + (first + j) * x.width, terms[j]);
        }
      }
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        if (first + j < pieces) {
#pragma unroll
          for (int i = 0; i < kWidth; ++i) {
            sum[i] += terms[j][i];
          }
        }
      }
    }
    store_elements<T, kWidth>(static_cast<T*>(x.gradient) + token * x.width + column, sum);
  }
}

unsigned blocks_of(int64_t count, int64_t each) { return static_cast<unsigned>((count + each - 1) / each); }

template <typename T, int kWidth>
void write_rows(const EmbeddingGradient& x, const Places& p, void* on) {
  int64_t warps = (x.width / kWidth + 31) / 32;
  unsigned threads = static_cast<unsigned>(warps < kThreads / 32 ? warps * 32 : kThreads);
  int64_t words = (x.places + 31) / 32;
  int window = static_cast<int>(words < kWindowWords ? words : kWindowWords);
  int piece_blocks = most_pieces(x.places) < kPieceBlocks ? static_cast<int>(most_pieces(x.places)) : kPieceBlocks;
  sum_rows<T, kWidth><<<piece_blocks + blocks_of(x.vocabulary, kRows), threads, window * sizeof(unsigned), stream(on)>>>(x, p, piece_blocks, window);
  check_launch("sums of an embedding's rows");
  if (piece_blocks > 0) {
    dim3 blocks(blocks_of(x.width, kJoinThreads * kWidth), piece_blocks < kJoinBlocks ? piece_blocks : kJoinBlocks);
    join_pieces<T, kWidth><<<blocks, kJoinThreads, 0, stream(on)>>>(x, p);
    check_launch("sums of an embedding's pieces");
  }
}

}  // namespace

int64_t embedding_gradient_workspace(const EmbeddingGradient& x) {
  int64_t most = (most_pieces(x.places) + 1) / 2 * 2;
  return words_before_pieces(x) * 4 + 2 * most * 8 + most * x.width * (x.type == Type::Float64 ? 8 : 4);
}

void embedding_gradient(const EmbeddingGradient& x, void* workspace, void* on) {
  if (x.vocabulary == 0 || x.width == 0) {
    return;
  }
  Places p = places_in(workspace, x);
  check(cudaMemsetAsync(workspace, 0, static_cast<size_t>(4 + x.vocabulary) * 4, stream(on)), "counts of an embedding's tokens");
  if (x.places > 0) {
    count_places<<<blocks_of(x.places, kThreads), kThreads, 0, stream(on)>>>(x.tokens, x.places, x.vocabulary, p);
    check_launch("counts of an embedding's tokens");
  }
  make_room<<<blocks_of(x.vocabulary, kThreads), kThreads, 0, stream(on)>>>(x.vocabulary, p);
  check_launch("room for an embedding's places");
  if (x.places > 0) {
    put_places<<<blocks_of(x.places, kThreads), kThreads, 0, stream(on)>>>(x.tokens, x.places, p);
    check_launch("places of an embedding's tokens");
  }
  with_type(x.type, [&](auto t) {
    using T = decltype(t);
    if (x.width % kVector<T> == 0 && aligned(x.arriving, x.gradient)) {
      write_rows<T, kVector<T>>(x, p, on);
    } else {
      write_rows<T, 1>(x, p, on);
    }
  });
}

}  // namespace moe::cuda

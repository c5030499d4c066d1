// How a product goes through the caches. B is always packed, in strips of a few registers' columns; A is read where it stands or packed too (Plan::direct).
// Direct: as many strips as take a quarter of a mebibyte are packed, and blocks of A's rows pass by them, so that both stay in the second cache.
// Else, where A's numbers lie too far apart to be read in place, or those of a row don't lie side by side and a strip is deeper than the first cache: the depth is cut into
// pieces. For each, B's part is packed, then A's some rows at a time, and what they give is added to C. C in bfloat16 would be rounded with each: there the whole depth is one
// piece.
#include <type_traits>

#include "kernels/product_tile_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

constexpr int64_t kCached = 32 << 10;   // bytes of a strip: the first cache of most processors
constexpr int64_t kPiece = 16 << 10;    // of a strip's piece, which leaves room for a tile's rows
constexpr int64_t kPacked = 256 << 10;  // of B's strips at a time, where A is read as it stands
constexpr int64_t kBlockRows = 120;     // whole tiles of 3, 6 and 8 rows
constexpr int64_t kPackedRows = kNarrowRows;  // of A at a time: whole tiles of either height
static_assert(kPackedRows % kTileRows == 0 && kBlockRows % kPackedRows == 0);

template <class E>
struct Plan {
  static constexpr int64_t kDepthBytes = kStripColumns<E> * static_cast<int64_t>(sizeof(Unit<E>));  // of a strip, a unit of its depth

  Strided<E> a;
  Strided<E> b;  // its lines are B's columns
  int64_t deep;
  int64_t strips;
  bool direct;
  bool as_lines;  // A's rows are packed one below the other
  int64_t piece;
  int64_t at_a_time;  // strips of B that are packed, where A is not

  explicit Plan(const Product& x)
      : a{static_cast<const typename E::Stored*>(x.a), x.a_row, x.a_step, x.depth},
        b{static_cast<const typename E::Stored*>(x.b), x.b_column, x.b_step, x.depth},
        deep(units<E>(x.depth)),
        strips((x.columns + kStripColumns<E> - 1) / kStripColumns<E>),
        direct(a.is_direct() && (a.step == 1 || deep * kDepthBytes <= kCached)),
        as_lines(Factor<E>::kDeep == 1 && a.step == 1),
        piece(deep),
        at_a_time(kPacked / (deep * kDepthBytes + 1)) {
    at_a_time = at_a_time < 1 ? 1 : at_a_time < strips ? at_a_time : strips;
    bool rounds = x.result_type == Type::BFloat16;  // such a result is stored once
    if (!direct && !rounds && deep > kPiece / kDepthBytes) {
      piece = kPiece / kDepthBytes;
    }
  }

  int64_t strip_units() const { return piece * kStripColumns<E>; }
  int64_t elements() const { return direct ? at_a_time * strip_units() : strips * strip_units() + piece * kPackedRows; }

  // Units [k, k + piece) of lines `first` on.
  Strided<E> part(const Strided<E>& x, int64_t first, int64_t k) const {
    constexpr int64_t kDeep = Factor<E>::kDeep;
    int64_t left = x.depth - k * kDeep, most = piece * kDeep;
    return {x.from + first * x.row + k * kDeep * x.step, x.row, x.step, left < most ? left : most};
  }
  void pack_rows(int64_t first, int64_t k, int64_t count, Unit<E>* to) const {
    if constexpr (Factor<E>::kDeep == 1) {
      if (as_lines) {
        return pack_lines<E>(part(a, first, k), count, piece, to);
      }
    }
    pack<E>(part(a, first, k), count, kPackedRows, to);
  }
  void pack_strip(const Product& x, int64_t strip, int64_t k, Unit<E>* to) const {
    int64_t first = strip * kStripColumns<E>, left = x.columns - first;
    pack<E>(part(b, first, k), left < kStripColumns<E> ? left : kStripColumns<E>, kStripColumns<E>, to);
  }
};

template <class E, class R>
void product_rows(const Product& x, int64_t begin, int64_t end, void* scratch) {
  Plan<E> plan(x);
  auto memory = static_cast<Unit<E>*>(scratch);
  auto c = static_cast<typename R::Stored*>(x.c);
  if (plan.direct) {
    for (int64_t from = 0; from < plan.strips; from += plan.at_a_time) {
      int64_t to = plan.strips - from < plan.at_a_time ? plan.strips : from + plan.at_a_time;
      for (int64_t strip = from; strip < to; ++strip) plan.pack_strip(x, strip, 0, memory + (strip - from) * plan.strip_units());
      for (int64_t block = begin; block < end; block += kBlockRows) {
        int64_t last = end - block < kBlockRows ? end : block + kBlockRows;
        for (int64_t strip = from; strip < to; ++strip) {
          int64_t column = strip * kStripColumns<E>, columns = x.columns - column, tall = tile_rows<E>(columns);
          for (int64_t row = block; row < last; row += tall) {
            tile_of<E, R>(last - row < tall ? last - row : tall, plan.a.first() + row * plan.a.unit_row(), plan.a.unit_row(), plan.a.unit_step(),
                          memory + (strip - from) * plan.strip_units(), plan.deep, c + row * x.c_row + column, x.c_row, columns, x.add);
          }
        }
      }
    }
    return;
  }
  Unit<E>* packed = memory + plan.strips * plan.strip_units();
  int64_t k = 0;
  do {  // once for a depth of 0, whose products are 0
    int64_t deep = plan.deep - k < plan.piece ? plan.deep - k : plan.piece;
    for (int64_t strip = 0; strip < plan.strips; ++strip) {
      plan.pack_strip(x, strip, k, memory + strip * plan.strip_units());
    }
    for (int64_t row = begin; row < end; row += kPackedRows) {
      int64_t last = end - row < kPackedRows ? end : row + kPackedRows;
      int64_t a_row = plan.as_lines ? plan.piece : 1, a_step = plan.as_lines ? 1 : kPackedRows;
      plan.pack_rows(row, k, last - row, packed);
      for (int64_t strip = 0; strip < plan.strips; ++strip) {
        int64_t column = strip * kStripColumns<E>, columns = x.columns - column, tall = tile_rows<E>(columns);
        for (int64_t at = row; at < last; at += tall) {
          tile_of<E, R>(last - at < tall ? last - at : tall, packed + (at - row) * a_row, a_row, a_step, memory + strip * plan.strip_units(), deep,
                        c + at * x.c_row + column, x.c_row, columns, x.add || k > 0);
        }
      }
    }
    k += plan.piece;
  } while (k < plan.deep);
}

}  // namespace

int64_t product_scratch(const Product& x) {
  int64_t bytes = 0;
  with_elements(x.type, [&](auto e) { bytes = Plan<decltype(e)>(x).elements() * static_cast<int64_t>(sizeof(Unit<decltype(e)>)); });
  return bytes;
}

void product(const Product& x, int64_t begin, int64_t end, void* scratch) {
  with_elements(x.type, [&](auto e) {
    using E = decltype(e);
    if constexpr (std::is_same_v<E, Brain>) {
      if (x.result_type == Type::Float32) {
        return product_rows<E, Single>(x, begin, end, scratch);
      }
    }
    product_rows<E, E>(x, begin, end, scratch);
  });
}

}  // namespace MOE_ISA
}  // namespace moe

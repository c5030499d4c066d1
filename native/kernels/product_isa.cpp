// Where A is read as it stands, a strip of B is packed and all rows pass by it; where A is packed too, all of B is packed first, and a tile's rows once.
#if defined(__AVX2__) && !defined(__FMA__)
#pragma GCC target("fma")
#endif
#include "kernels/product_tile_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

template <class E>
struct Plan {
  Strided<E> a;
  Strided<E> b;  // its lines are B's columns
  bool direct;
  int64_t deep;
  int64_t strips;

  explicit Plan(const Product& x)
      : a{static_cast<const typename E::Stored*>(x.a), x.a_row, x.a_step, x.depth},
        b{static_cast<const typename E::Stored*>(x.b), x.b_column, x.b_step, x.depth},
        direct(a.is_direct()),
        deep(units<E>(x.depth)),
        strips((x.columns + kStripColumns<E> - 1) / kStripColumns<E>) {}

  int64_t strip_units() const { return deep * kStripColumns<E>; }
  int64_t elements() const { return direct ? strip_units() : strips * strip_units() + deep * kTileRows; }

  int64_t pack_strip(const Product& x, int64_t strip, Unit<E>* to) const {
    int64_t first = strip * kStripColumns<E>, left = x.columns - first, columns = left < kStripColumns<E> ? left : kStripColumns<E>;
    pack<E>({b.from + first * b.row, b.row, b.step, b.depth}, columns, kStripColumns<E>, to);
    return columns;
  }
};

template <class E, class R>
void product_rows(const Product& x, int64_t begin, int64_t end, void* scratch) {
  Plan<E> plan(x);
  auto memory = static_cast<Unit<E>*>(scratch);
  auto c = static_cast<typename R::Stored*>(x.c);
  auto rows_at = [&](int64_t row) { return end - row < kTileRows ? end - row : kTileRows; };
  if (plan.direct) {
    for (int64_t strip = 0; strip < plan.strips; ++strip) {
      int64_t columns = plan.pack_strip(x, strip, memory);
      for (int64_t row = begin; row < end; row += kTileRows) {
        tile_of<E, R>(rows_at(row), plan.a.first() + row * plan.a.unit_row(), plan.a.unit_row(), plan.a.unit_step(), memory, plan.deep,
                      c + row * x.c_row + strip * kStripColumns<E>, x.c_row, columns, x.add);
      }
    }
    return;
  }
  for (int64_t strip = 0; strip < plan.strips; ++strip) {
    plan.pack_strip(x, strip, memory + strip * plan.strip_units());
  }
  Unit<E>* packed = memory + plan.strips * plan.strip_units();
  for (int64_t row = begin; row < end; row += kTileRows) {
    pack<E>({plan.a.from + row * plan.a.row, plan.a.row, plan.a.step, plan.a.depth}, rows_at(row), kTileRows, packed);
    for (int64_t strip = 0; strip < plan.strips; ++strip) {
      tile_of<E, R>(rows_at(row), packed, 1, kTileRows, memory + strip * plan.strip_units(), plan.deep, c + row * x.c_row + strip * kStripColumns<E>, x.c_row,
                    x.columns - strip * kStripColumns<E>, x.add);
    }
  }
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
    if (x.result_type == x.type) {
      product_rows<E, E>(x, begin, end, scratch);
    } else {
      product_rows<E, Single>(x, begin, end, scratch);
    }
  });
}

}  // namespace MOE_ISA
}  // namespace moe

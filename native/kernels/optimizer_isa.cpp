// The loops over a rule's elements. CMake compiles this file once for each instruction set, with MOE_ISA as its namespace; it must not
// include anything whose inline functions other files use too, or the linker could pick the wide form for a processor without it.
// Products and sums are not fused into one rounding (-ffp-contract=off): every instruction set gives the same bits.
#include "kernels/optimizer_rules.h"

namespace moe {
namespace MOE_ISA {
namespace {

template <class R, typename T>
void steps(void* const* slots, const double* coefficients, int64_t begin, int64_t end) {
  T c[R::kCoefficients];
  for (int i = 0; i < R::kCoefficients; ++i) {
    c[i] = static_cast<T>(coefficients[i]);
  }
  T* __restrict p0 = static_cast<T*>(slots[0]);
  T* __restrict p1 = static_cast<T*>(slots[1]);
  T* __restrict p2 = static_cast<T*>(slots[R::kSlots > 2 ? 2 : 1]);
  T* __restrict p3 = static_cast<T*>(slots[R::kSlots > 3 ? 3 : 1]);
  T* __restrict p4 = static_cast<T*>(slots[R::kSlots > 4 ? 4 : 1]);
  for (int64_t i = begin; i < end; ++i) {
    T x[kMostSlots];
    x[0] = p0[i];
    x[1] = p1[i];
    if constexpr (R::kSlots > 2) x[2] = p2[i];
    if constexpr (R::kSlots > 3) x[3] = p3[i];
    if constexpr (R::kSlots > 4) x[4] = p4[i];
    R::apply(x, c);
    if constexpr ((R::kWritten & 1) != 0) p0[i] = x[0];
    if constexpr ((R::kWritten & 2) != 0) p1[i] = x[1];
    if constexpr ((R::kWritten & 4) != 0) p2[i] = x[2];
    if constexpr ((R::kWritten & 8) != 0) p3[i] = x[3];
    if constexpr ((R::kWritten & 16) != 0) p4[i] = x[4];
  }
}

template <class R>
void steps(bool wide, void* const* slots, const double* coefficients, int64_t begin, int64_t end) {
  wide ? steps<R, double>(slots, coefficients, begin, end) : steps<R, float>(slots, coefficients, begin, end);
}

// Eight sums side by side, joined in a fixed order.
template <typename T>
double squares(const T* values, int64_t begin, int64_t end) {
  double sums[8] = {};
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) {
    for (int lane = 0; lane < 8; ++lane) {
      double value = values[i + lane];
      sums[lane] += value * value;
    }
  }
  for (int lane = 0; i < end; ++i, ++lane) {
    double value = values[i];
    sums[lane] += value * value;
  }
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

}  // namespace

void step_range(Rule rule, bool wide, void* const* slots, const double* coefficients, int64_t begin, int64_t end) {
  rules::with(rule, [=](auto r) { steps<decltype(r)>(wide, slots, coefficients, begin, end); });
}

double sum_squares(bool wide, const void* values, int64_t begin, int64_t end) {
  return wide ? squares(static_cast<const double*>(values), begin, end) : squares(static_cast<const float*>(values), begin, end);
}

}  // namespace MOE_ISA
}  // namespace moe

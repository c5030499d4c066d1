// One pass of a rule over a part of one tensor, compiled once for each instruction set.
#pragma once

#include <cstdint>

namespace moe {

// The managed side's UpdateRule, in its order.
enum class Rule : int32_t { Adam, AdamAmsgrad, ScaledSum, Momentum, AdaBelief, AdaBeliefAmsgrad, LambDirection, MuonMomentum };

constexpr int kMostSlots = 6;

// slots: addresses of the first elements, float or double as `wide` says. Elements [begin, end) are stepped.
using StepRange = void (*)(Rule rule, bool wide, void* const* slots, const double* coefficients, int64_t begin, int64_t end);

// Sum of the squares of elements [begin, end), in double and in an order of its own, the same on every processor.
using SumSquares = double (*)(bool wide, const void* values, int64_t begin, int64_t end);

namespace baseline {
void step_range(Rule rule, bool wide, void* const* slots, const double* coefficients, int64_t begin, int64_t end);
double sum_squares(bool wide, const void* values, int64_t begin, int64_t end);
}  // namespace baseline

namespace avx2 {
void step_range(Rule rule, bool wide, void* const* slots, const double* coefficients, int64_t begin, int64_t end);
double sum_squares(bool wide, const void* values, int64_t begin, int64_t end);
}  // namespace avx2

namespace avx512 {
void step_range(Rule rule, bool wide, void* const* slots, const double* coefficients, int64_t begin, int64_t end);
double sum_squares(bool wide, const void* values, int64_t begin, int64_t end);
}  // namespace avx512

}  // namespace moe

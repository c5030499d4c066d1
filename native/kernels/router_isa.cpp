// The rows of a router. With s the scores, c those chosen and S = sum c + tiny: a weight is scale * c / S, so dc = scale / S * (dw - sum(dw c) / S);
// softmax: dlogit = s (ds - sum(s ds)); sigmoid: dlogit = s (1 - s) ds; and the square of the logsumexp adds 2 logsumexp softmax(logits).
#include "kernels/router.h"

#include "kernels/rows_isa.h"

namespace moe {
namespace MOE_ISA {
namespace {

template <typename T>
struct Softmax {
  T most;
  T sum;
  T log_sum_exp() const { return most + logarithm(sum); }
};

template <typename T>
T sum_of(const T* values, int64_t count) {
  LaneSums<T> sums;
  sums.add(values, count);
  return sums.total();
}

template <typename T>
Softmax<T> softmax(const T* __restrict logits, T* __restrict result, int64_t experts) {
  T most = logits[0];
  for (int64_t e = 1; e < experts; ++e) {
    most = logits[e] > most ? logits[e] : most;
  }
#pragma GCC ivdep
  for (int64_t e = 0; e < experts; ++e) {
    result[e] = exponential(logits[e] - most);
  }
  T sum = sum_of(result, experts);
  T inverse = T(1) / sum;
  for (int64_t e = 0; e < experts; ++e) {
    result[e] *= inverse;
  }
  return {most, sum};
}

template <typename T>
void sigmoids(const T* __restrict logits, T* __restrict result, int64_t experts) {
#pragma GCC ivdep
  for (int64_t e = 0; e < experts; ++e) {
    result[e] = sigmoid(logits[e]);
  }
}

// Keeps the k best so far in order. An id is never chosen twice, whatever the values are, and what is no number counts as the lowest.
template <typename T>
void select(const T* scores, const float* bias, int64_t experts, int64_t slots, int64_t* ids) {
  auto candidate = [&](int64_t e) {
    T value = scores[e] + T(bias[e]);
    return value == value ? value : -T(__builtin_inf());
  };
  for (int64_t e = 0; e < experts; ++e) {
    T value = candidate(e);
    int64_t place = e < slots ? e : slots;
    while (place > 0 && value > candidate(ids[place - 1])) {
      if (place < slots) {
        ids[place] = ids[place - 1];
      }
      --place;
    }
    if (place < slots) {
      ids[place] = e;
    }
  }
}

template <typename T>
void forward_block(const RouterForward& x, int64_t block, T* scratch) {
  int64_t segment = block / x.blocks_a_segment();
  int64_t first = block % x.blocks_a_segment() * kRouterBlock;
  int64_t last = first + kRouterBlock < x.tokens ? first + kRouterBlock : x.tokens;
  double* __restrict sums = x.block_sums + block * x.experts;
  int32_t* counts = x.block_counts + block * x.experts;
  for (int64_t e = 0; e < x.experts; ++e) {
    sums[e] = 0;
    counts[e] = 0;
  }
  double squares = 0;
  T* scores = scratch;
  for (int64_t token = segment * x.tokens + first; token < segment * x.tokens + last; ++token) {
    const T* logits = static_cast<const T*>(x.logits) + token * x.experts;
    T log_sum_exp = softmax(logits, scores, x.experts).log_sum_exp();
    squares += static_cast<double>(log_sum_exp) * log_sum_exp;
    T share = 1;
    if (x.sigmoid) {
      sigmoids(logits, scores, x.experts);
      share = T(1) / (sum_of(scores, x.experts) + T(kRouterTiny));
    }
    for (int64_t e = 0; e < x.experts; ++e) {
      sums[e] += static_cast<double>(scores[e] * share);
    }
    int64_t* ids = x.ids + token * x.slots;
    T* weights = static_cast<T*>(x.weights) + token * x.slots;
    T* chosen = static_cast<T*>(x.chosen) + token * x.slots;
    select(scores, x.bias, x.experts, x.slots, ids);
    T total = 0;
    for (int64_t slot = 0; slot < x.slots; ++slot) {
      chosen[slot] = scores[ids[slot]];
      total += chosen[slot];
      ++counts[ids[slot]];
    }
    T divisor = x.normalize ? total + T(kRouterTiny) : T(1);
    for (int64_t slot = 0; slot < x.slots; ++slot) {
      weights[slot] = chosen[slot] / divisor * T(x.scale);
    }
  }
  x.block_squares[block] = squares;
}

// Adds to the scores' gradients what comes by the weights of one token.
template <typename T>
void weights_to_scores(const RouterBackward& x, int64_t token, const T* scores, T* gradients) {
  const int64_t* ids = x.ids + token * x.slots;
  const T* arriving = static_cast<const T*>(x.weight_grads) + token * x.slots;
  T total = T(kRouterTiny), product = 0;
  for (int64_t slot = 0; slot < x.slots; ++slot) {
    total += scores[ids[slot]];
    product += arriving[slot] * scores[ids[slot]];
  }
  for (int64_t slot = 0; slot < x.slots; ++slot) {
    gradients[ids[slot]] += x.normalize ? T(x.scale) / total * (arriving[slot] - product / total) : T(x.scale) * arriving[slot];
  }
}

template <typename T>
T product_of(const T* __restrict left, const T* __restrict right, T* __restrict products, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    products[i] = left[i] * right[i];
  }
  return sum_of(products, count);
}

template <typename T>
void backward_row(const RouterBackward& x, int64_t token, int64_t segment, T* scratch) {
  int64_t experts = x.experts;
  const T* logits = static_cast<const T*>(x.logits) + token * experts;
  const T* shares = x.sum_grads == nullptr ? nullptr : static_cast<const T*>(x.sum_grads) + segment * experts;
  T* __restrict result = static_cast<T*>(x.logit_grads) + token * experts;
  T* __restrict scores = scratch;
  T* __restrict gradients = scratch + experts;
  T squares = x.square_grad == nullptr ? T(0) : *static_cast<const T*>(x.square_grad);
  T slope = softmax(logits, scores, experts).log_sum_exp() * 2 * squares;
  if (x.sigmoid) {
    for (int64_t e = 0; e < experts; ++e) {
      result[e] = slope * scores[e];
    }
    sigmoids(logits, scores, experts);
  }
  for (int64_t e = 0; e < experts; ++e) {
    gradients[e] = shares == nullptr ? T(0) : shares[e];
  }
  if (x.sigmoid && shares != nullptr) {
    T inverse = T(1) / (sum_of(scores, experts) + T(kRouterTiny));
    T mean = 0;
    for (int64_t e = 0; e < experts; ++e) {
      mean += shares[e] * scores[e];
    }
    mean *= inverse;
    for (int64_t e = 0; e < experts; ++e) {
      gradients[e] = (shares[e] - mean) * inverse;
    }
  }
  if (x.weight_grads != nullptr) {
    weights_to_scores(x, token, scores, gradients);
  }
  if (x.sigmoid) {
    for (int64_t e = 0; e < experts; ++e) {
      result[e] += gradients[e] * scores[e] * (T(1) - scores[e]);
    }
  } else {
    T mean = product_of(scores, gradients, static_cast<T*>(result), experts) - slope;
    for (int64_t e = 0; e < experts; ++e) {
      result[e] = scores[e] * (gradients[e] - mean);
    }
  }
}

}  // namespace

void router_forward(const RouterForward& x, int64_t begin, int64_t end, void* scratch) {
  for (int64_t block = begin; block < end; ++block) {
    x.type == Type::Float64 ? forward_block(x, block, static_cast<double*>(scratch)) : forward_block(x, block, static_cast<float*>(scratch));
  }
}

void router_backward(const RouterBackward& x, int64_t begin, int64_t end, void* scratch) {
  for (int64_t block = begin; block < end; ++block) {
    int64_t segment = block / x.blocks_a_segment();
    int64_t first = block % x.blocks_a_segment() * kRouterBlock;
    int64_t last = first + kRouterBlock < x.tokens ? first + kRouterBlock : x.tokens;
    for (int64_t token = segment * x.tokens + first; token < segment * x.tokens + last; ++token) {
      x.type == Type::Float64 ? backward_row(x, token, segment, static_cast<double*>(scratch))
                              : backward_row(x, token, segment, static_cast<float*>(scratch));
    }
  }
}

}  // namespace MOE_ISA
}  // namespace moe

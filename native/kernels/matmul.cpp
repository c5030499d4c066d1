// Reference of the tiles: the same products of the factors in float64, tests/Torch/Kernels/GroupedProductTests.cs.
#include "kernels/matmul.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <mutex>

#include "kernels/checks.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"
#include "kernels/product.h"
#include "kernels/scratch.h"

namespace {

// Few rows don't repay the packing of a large matrix. Those of a small one go by tiles too, so that an expert's rows have the same bits however many they are.
constexpr int64_t kFewRows = 8;
constexpr int64_t kSmallMatrix = 1 << 18;
// What is packed should stay in the second cache: a mebibyte on the processors that this was measured on.
constexpr int64_t kMostPacked = 1 << 20;
// Multiplications of bfloat16 up to which tiles are taken beside a matrix unit: oneDNN, which has that, prepares itself for each number of rows anew.
constexpr int64_t kMostBesideUnit = 1 << 28;
constexpr int64_t kGrain = 1 << 20;  // multiplications that are worth a thread of their own
constexpr int64_t kGrainRows = 64;   // and rows that repay its packing

#if defined(__x86_64__)
// By an instruction of the processor's own. Intel's take so long for it that numbers widened to float32 are multiplied faster: docs/log.md, "bfloat16 on a CPU".
bool has_bfloat16_products() {
  static const bool has = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd");
  return has && moe::isa() == moe::Isa::Avx512;
}

// oneDNN, in libtorch, has the instructions of these for bfloat16.
bool has_matrix_unit() {
  static const bool has = __builtin_cpu_supports("amx-bf16");
  return has;
}
#define MOE_FOR_PRODUCT(x, function) ((x).type == moe::Type::BFloat16 && has_bfloat16_products() ? moe::avx512bf16::function : MOE_FOR_ISA(function))
#else
bool has_matrix_unit() { return false; }
#define MOE_FOR_PRODUCT(x, function) MOE_FOR_ISA(function)
#endif

moe::Product product_of(const at::Tensor& result, const at::Tensor& a, const at::Tensor& b, bool add) {
  return {moe::type_of(a), moe::type_of(result), a.data_ptr(), a.stride(0), a.stride(1), b.data_ptr(), b.stride(0), b.stride(1), result.data_ptr(), result.stride(0),
          a.size(0),       b.size(1),            a.size(1),    add};
}

// Registers are too narrow on other processors for tiles to be worth it.
bool suits_tiles(const at::Tensor& result, const at::Tensor& a, const at::Tensor& b) {
  bool by_size = a.size(1) > 0 && b.size(1) > 0 && (a.size(0) >= kFewRows || b.numel() <= kSmallMatrix);
  bool by_unit = a.scalar_type() == at::kBFloat16 && has_matrix_unit() && a.size(0) * a.size(1) * b.size(1) > kMostBesideUnit;
  return result.is_cpu() && moe::isa() != moe::Isa::Baseline && by_size && result.stride(1) == 1 && !by_unit;
}

// The deepest part of a product whose packed factor stays in the cache; less than all where the parts' sum loses nothing: in a result wider than the factors.
int64_t part_of_depth(moe::Product x) {
  while (x.result_type != x.type && x.depth > 1 && MOE_FOR_PRODUCT(x, product_scratch)(x) > kMostPacked) {
    x.depth = (x.depth / 2 + 1) & ~int64_t{1};
    if (x.depth <= 64) {
      break;
    }
  }
  return x.depth;
}

moe::Product part(moe::Product x, int64_t begin, int64_t depth) {
  auto size = static_cast<int64_t>(x.type == moe::Type::BFloat16 ? 2 : x.type == moe::Type::Float32 ? 4 : 8);
  x.a = static_cast<const char*>(x.a) + begin * x.a_step * size;
  x.b = static_cast<const char*>(x.b) + begin * x.b_step * size;
  x.depth = std::min(depth, x.depth - begin);
  x.add = x.add || begin > 0;
  return x;
}

bool by_tiles(const at::Tensor& result, const at::Tensor& a, const at::Tensor& b, bool add) {
  if (!suits_tiles(result, a, b)) {
    return false;
  }
  auto whole = product_of(result, a, b, add);
  auto scratch_of = MOE_FOR_PRODUCT(whole, product_scratch);
  int64_t depth = part_of_depth(whole), last = (whole.depth - 1) / depth * depth;
  int64_t bytes = std::max(scratch_of(part(whole, 0, depth)), scratch_of(part(whole, last, depth)));  // the last may be packed where the first is not: of an odd depth
  if (bytes > kMostPacked) {
    return false;
  }
  auto work = MOE_FOR_PRODUCT(whole, product);
  int64_t grain = std::max(kGrainRows, kGrain / std::max<int64_t>(1, whole.columns * whole.depth));
  moe::parallel_for(0, whole.rows, grain, [&](int64_t begin, int64_t end) {
    static thread_local moe::Scratch scratch;
    auto memory = scratch.of(bytes);
    for (int64_t at = 0; at < whole.depth; at += depth) {
      work(part(whole, at, depth), begin, end, memory);
    }
  });
  return true;
}

const auto& wide_product() {
  static auto found = c10::Dispatcher::singleton().findSchema({"aten::mm", "dtype_out"});
  return found;
}

void multiply_wide(at::Tensor& result, const at::Tensor& a, const at::Tensor& b) {
  using Multiply = at::Tensor&(const at::Tensor&, const at::Tensor&, at::ScalarType, at::Tensor&);
  wide_product()->typed<Multiply>().call(a, b, at::kFloat, result);
}

const auto& wide_sum() {
  static auto found = c10::Dispatcher::singleton().findSchema({"aten::addmm", "dtype_out"});
  return found;
}

void add_in_pass(at::Tensor& result, const at::Tensor& a, const at::Tensor& b) {
  using Add = at::Tensor&(const at::Tensor&, const at::Tensor&, const at::Tensor&, at::ScalarType, const at::Scalar&, const at::Scalar&, at::Tensor&);
  wide_sum()->typed<Add>().call(result, a, b, at::kFloat, 1, 1, result);
}

// Some versions of libtorch have the sum but want its start in bfloat16. No number tells them apart, hence a small one is tried on the device of `a`.
bool takes_wide_start(const at::Tensor& a) {
  if (!wide_sum().has_value()) {
    return false;
  }
  auto factor = at::zeros({16, 16}, a.options()), sum = at::zeros({16, 16}, a.options().dtype(at::kFloat));
  try {
    add_in_pass(sum, factor, factor);
    return true;
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error&) {
    return false;
  }
}

// result += a b, in the product's own pass over the result where the library can.
void add_wide(at::Tensor& result, const at::Tensor& a, const at::Tensor& b) {
  static std::once_flag asked;
  static bool in_pass = false;
  std::call_once(asked, [&] { in_pass = takes_wide_start(a); });
  if (in_pass) {
    return add_in_pass(result, a, b);
  }
  auto term = at::empty_like(result);
  multiply_wide(term, a, b);
  result.add_(term);
}

// Whether the library may keep this product's sums in bfloat16 while it adds them up, which loses most of their digits: it does so on the host where it has no oneDNN for it,
// and for so few multiplications that oneDNN is not asked (libtorch 1.13).
bool is_added_up_narrowly(const at::Tensor& a, const at::Tensor& b) {
  constexpr int64_t kSmall = 16 * 16 * 16;
  return a.scalar_type() == at::kBFloat16 && a.is_cpu() && (a.numel() * b.size(1) <= kSmall || !moe::adds_up_wide());
}

// A part of x in float32, in memory that is used again; what is without gaps in x is so there.
at::Tensor widened(const at::Tensor& memory, const at::Tensor& x) {
  bool turned = x.stride(0) == 1;
  auto from = turned ? x.t() : x;
  auto wide = memory.narrow(0, 0, x.numel()).view(from.sizes());
  wide.copy_(from);
  return turned ? wide.t() : wide;
}

// sum = a b by float32 products of parts of the factors: whole ones would take twice their memory again, a head's much more than its chunk of logits.
void widened_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  constexpr int64_t kDepth = 512;
  int64_t depth = std::min(kDepth, a.size(1));
  auto wide = a.options().dtype(at::kFloat);
  auto left = at::empty({a.size(0) * depth}, wide), right = at::empty({depth * b.size(1)}, wide);
  sum.zero_();
  for (int64_t at = 0; at < a.size(1); at += depth) {
    int64_t deep = std::min(depth, a.size(1) - at);
    sum.addmm_(widened(left, a.narrow(1, at, deep)), widened(right, b.narrow(0, at, deep)));
  }
}

// A host's product of bfloat16 with float32 sums, block by block of the result: small enough for tiles, whatever the whole is.
void by_blocks(const at::Tensor& result, const at::Tensor& a, const at::Tensor& b, bool add) {
  constexpr int64_t kSide = 1024;
  int64_t rows = std::min(kSide, a.size(0)), columns = std::min(kSide, b.size(1));
  bool wide = result.scalar_type() == at::kFloat;
  auto sums = at::empty({rows, columns}, a.options().dtype(at::kFloat));
  for (int64_t column = 0; column < b.size(1); column += columns) {
    for (int64_t row = 0; row < a.size(0); row += rows) {
      auto left = a.narrow(0, row, std::min(rows, a.size(0) - row)), right = b.narrow(1, column, std::min(columns, b.size(1) - column));
      auto part = result.narrow(0, row, left.size(0)).narrow(1, column, right.size(1));
      if (wide && by_tiles(part, left, right, add)) {
        continue;
      }
      auto sum = sums.narrow(0, 0, left.size(0)).narrow(1, 0, right.size(1));
      if (!by_tiles(sum, left, right, false)) {
        widened_product(sum, left, right);
      }
      add ? part.add_(sum) : part.copy_(sum);
    }
  }
}

void by_library(at::Tensor result, const at::Tensor& a, const at::Tensor& b, bool add) {
  bool wide = result.scalar_type() != a.scalar_type();
  if (wide && a.is_cuda() && moe::has_wide_product()) {
    add ? add_wide(result, a, b) : multiply_wide(result, a, b);
  } else if (wide && a.is_cuda()) {
    auto product = at::mm(a.to(at::kFloat), b.to(at::kFloat));
    add ? result.add_(product) : result.copy_(product);
  } else if (wide || is_added_up_narrowly(a, b)) {
    by_blocks(result, a, b, add);
  } else {
    add ? at::addmm_out(result, result, a, b) : at::mm_out(result, a, b);
  }
}

}  // namespace

bool moe::has_wide_product() { return wide_product().has_value(); }

bool moe::adds_up_wide() {
#if defined(__x86_64__)
  static const bool has = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return has;
#else
  return false;
#endif
}

MOE_EXPORT int32_t moe_adds_up_wide(int32_t* wide) {
  MOE_TRY { *wide = moe::adds_up_wide() ? 1 : 0; }
  MOE_CATCH
}

void moe::multiply(const at::Tensor& result, const at::Tensor& a, const at::Tensor& b, bool add) {
  bool wide = a.scalar_type() == at::kBFloat16 && result.scalar_type() == at::kFloat;
  TORCH_CHECK(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0) && result.sizes() == at::IntArrayRef({a.size(0), b.size(1)}) &&
                  moe::is_floating(moe::type_of(a)) && a.scalar_type() == b.scalar_type() && (wide || result.scalar_type() == a.scalar_type()) &&
                  a.device() == b.device() && a.device() == result.device(),
              "a product ", result.scalar_type(), " ", result.sizes(), " of ", a.scalar_type(), " ", a.sizes(), " on ", a.device().str(), " and ", b.scalar_type(), " ",
              b.sizes(), " on ", b.device().str());
  if (!by_tiles(result, a, b, add)) {
    by_library(result, a, b, add);
  }
}

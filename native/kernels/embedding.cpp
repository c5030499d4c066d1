// The gradient of an embedding's table. Reference: by recorded operators, src/Models/Embedding.cs.
#include "kernels/embedding.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/checks.h"
#include "kernels/isa.h"
#include "kernels/parallel.h"
#include "kernels/permute.h"

namespace {

// Elements that are worth a thread of their own.
constexpr int64_t kGrain = 1 << 14;

void gradient_on_host(moe::EmbeddingGradient x) {
  std::vector<int32_t> order(x.places), sorted(x.places), ends(x.vocabulary);
  std::vector<int64_t> counts(x.vocabulary);
  int64_t unknown = x.vocabulary;
  bool known = moe::sort_pairs({x.tokens, x.places, x.vocabulary, order.data(), sorted.data(), counts.data(), ends.data()}, &unknown);
  TORCH_CHECK(known && (x.vocabulary == 0 ? 0 : ends.back()) == x.places, "there is no token ", unknown, " in a table of ", x.vocabulary);
  x.order = order.data();
  x.ends = ends.data();
  moe::parallel_for(0, x.vocabulary, moe::rows_a_thread(kGrain, x.width), [&](int64_t begin, int64_t end) { MOE_FOR_ISA(embedding_gradient)(x, begin, end); });
}

#ifdef MOE_CUDA
void gradient_on_cuda(const moe::EmbeddingGradient& x, const at::Tensor& beside) {
  auto workspace = at::empty({moe::cuda::embedding_gradient_workspace(x)}, beside.options().dtype(at::kByte));
  moe::cuda::embedding_gradient(x, workspace.data_ptr(), moe::stream_of(beside));
}
#endif

}  // namespace

// arriving: [T, D], tokens: [T] int64, gradient: [V, D] of arriving's type.
MOE_EXPORT int32_t moe_embedding_backward(moe::Handle arriving_handle, moe::Handle tokens_handle, moe::Handle gradient_handle) {
  MOE_TRY {
    auto arriving = moe::borrow(arriving_handle), tokens = moe::borrow(tokens_handle), gradient = moe::borrow(gradient_handle);
    auto type = moe::type_of(arriving);
    TORCH_CHECK(arriving.dim() == 2 && gradient.dim() == 2 && moe::is_floating(type), "rows ", arriving.scalar_type(), " ", arriving.sizes(), " and a gradient ",
                gradient.sizes(), " should be floating-point [T, D] and [V, D]");
    int64_t places = arriving.size(0), width = arriving.size(1), vocabulary = gradient.size(0);
    TORCH_CHECK(places <= std::numeric_limits<int32_t>::max() && vocabulary < std::numeric_limits<int32_t>::max(), places, " places of ", vocabulary,
                " tokens are more than are counted in 32 bits");
    moe::check_tensor("the rows' gradient", arriving, {places, width}, type, arriving);
    moe::check_tensor("the tokens", tokens, {places}, moe::Type::Int64, arriving);
    moe::check_tensor("the table's gradient", gradient, {vocabulary, width}, type, arriving);
    moe::EmbeddingGradient x{type, arriving.data_ptr(), tokens.data_ptr<int64_t>(), gradient.data_ptr(), places, vocabulary, width, nullptr, nullptr};
    MOE_BY_DEVICE(arriving, gradient_on_host(x), gradient_on_cuda(x, arriving));
  }
  MOE_CATCH
}

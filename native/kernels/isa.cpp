#include "kernels/isa.h"

#include "torch/torch_abi.h"

// For tests of the forms that this processor would not choose. highest: 0 for the baseline's, 1 for AVX2's, 2 for AVX-512's. *used: whose forms run from here on.
MOE_EXPORT int32_t moe_limit_isa(int32_t highest, int32_t* used) {
  MOE_TRY {
    moe::highest_isa = static_cast<moe::Isa>(highest);
    *used = static_cast<int32_t>(moe::isa());
  }
  MOE_CATCH
}

// Autograd, with nodes whose backward runs in managed code.
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/variable.h>

#include "torch/torch_abi.h"

namespace {

// Fills `input_gradients` (handles given away to the caller, null for none) and returns 0, or returns a status after an
// exception that the managed side keeps for itself.
using Backward = int32_t (*)(void* context, const moe::Handle* output_gradients, int32_t outputs, moe::Handle* input_gradients, int32_t inputs);
using Release = void (*)(void* context);

// What managed code has to do for a node.
struct Callbacks {
  Backward backward;
  Release release_saved;  // the graph is used up: what was saved for backward may go
  Release release;        // the node is gone
};

struct ManagedNode : torch::autograd::Node {
  Callbacks callbacks;
  void* context;
  int32_t inputs;

  ManagedNode(Callbacks callbacks, void* context, int32_t inputs) : callbacks(callbacks), context(context), inputs(inputs) {}

  ~ManagedNode() override { callbacks.release(context); }

  void release_variables() override { callbacks.release_saved(context); }

  std::string name() const override { return "ManagedNode"; }

  torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
    std::vector<moe::Handle> outgoing;
    for (auto& gradient : gradients) {
      outgoing.push_back(gradient.defined() ? gradient.unsafeGetTensorImpl() : nullptr);
    }
    std::vector<moe::Handle> incoming(inputs, nullptr);
    int32_t status = callbacks.backward(context, outgoing.data(), static_cast<int32_t>(outgoing.size()), incoming.data(), inputs);
    torch::autograd::variable_list result(inputs);
    for (int32_t i = 0; i < inputs; ++i) {
      if (incoming[i] != nullptr) {
        result[i] = at::Tensor(c10::intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>::reclaim(incoming[i]));
      }
    }
    TORCH_CHECK(status == 0, "the backward of a managed function failed");
    return result;
  }
};

// Told when the backward of a node begins (1) and when it has ended (0), on the thread that runs it. Throws nothing.
using Watcher = void (*)(int64_t context, int32_t begins);

struct BackwardBegins : torch::autograd::FunctionPreHook {
  Watcher watcher;
  int64_t context;

  BackwardBegins(Watcher watcher, int64_t context) : watcher(watcher), context(context) {}

  torch::autograd::variable_list operator()(const torch::autograd::variable_list& gradients) override {
    watcher(context, 1);
    return gradients;
  }
};

struct BackwardEnds : torch::autograd::FunctionPostHook {
  Watcher watcher;
  int64_t context;

  BackwardEnds(Watcher watcher, int64_t context) : watcher(watcher), context(context) {}

  torch::autograd::variable_list operator()(const torch::autograd::variable_list& outputs, const torch::autograd::variable_list&) override {
    watcher(context, 0);
    return outputs;
  }
};

bool is_watched(const torch::autograd::Node& node) {
  for (const auto& hook : node.post_hooks()) {
    if (dynamic_cast<const BackwardEnds*>(hook.get()) != nullptr) {
      return true;
    }
  }
  return false;
}

torch::autograd::variable_list borrow_all(const moe::Handle* handles, int32_t count) {
  torch::autograd::variable_list tensors;
  tensors.reserve(count);
  for (int32_t i = 0; i < count; ++i) {
    tensors.push_back(handles[i] == nullptr ? at::Tensor() : moe::borrow(handles[i]));
  }
  return tensors;
}

}  // namespace

MOE_EXPORT int32_t moe_grad_mode(int32_t enabled, int32_t* before) {
  MOE_TRY {
    *before = at::GradMode::is_enabled();
    at::GradMode::set_enabled(enabled != 0);
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_requires_grad(moe::Handle handle, int32_t* required) {
  MOE_TRY { *required = moe::borrow(handle).requires_grad(); }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_set_requires_grad(moe::Handle handle, int32_t required) {
  MOE_TRY { moe::borrow(handle).set_requires_grad(required != 0); }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_gradient(moe::Handle handle, moe::Handle* gradient) {
  MOE_TRY {
    auto tensor = moe::borrow(handle);
    *gradient = moe::release(tensor.grad());
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_set_gradient(moe::Handle handle, moe::Handle gradient) {
  MOE_TRY { moe::borrow(handle).mutable_grad() = gradient == nullptr ? at::Tensor() : moe::borrow(gradient); }
  MOE_CATCH
}

// Has `callback` called, on the thread of the backward, each time that a gradient with respect to this tensor has been computed. `release` is called once, when
// the tensor's node is gone, also where this fails.
MOE_EXPORT int32_t moe_on_gradient(moe::Handle handle, int32_t (*callback)(void*), Release release, void* context) {
  MOE_TRY {
    std::shared_ptr<void> owned(context, release);
    moe::borrow(handle).register_hook([owned, callback](const at::Tensor&) { TORCH_CHECK(callback(owned.get()) == 0, "a managed hook failed"); });
  }
  MOE_CATCH
}

// Accumulates into the gradients of all leaves. `seeds` are the gradients of `roots`; a null one counts as 1 for a scalar root.
MOE_EXPORT int32_t moe_backward(const moe::Handle* roots, const moe::Handle* seeds, int32_t count) {
  MOE_TRY { torch::autograd::backward(borrow_all(roots, count), borrow_all(seeds, count)); }
  MOE_CATCH
}

// Makes `outputs` the results of one node over `inputs`. The node owns `context` from here on, also where this fails.
MOE_EXPORT int32_t moe_attach_backward(
    const moe::Handle* inputs, int32_t input_count, const moe::Handle* outputs, int32_t output_count, Callbacks callbacks, void* context) {
  MOE_TRY {
    std::shared_ptr<ManagedNode> node(new ManagedNode(callbacks, context, input_count), torch::autograd::deleteNode);
    node->set_next_edges(torch::autograd::collect_next_edges(borrow_all(inputs, input_count)));
    for (auto& output : borrow_all(outputs, output_count)) {
      torch::autograd::set_history(output, node);
    }
  }
  MOE_CATCH
}

// Has the backward of the node that made a tensor watched; nothing where there is none, or where it is watched already.
MOE_EXPORT int32_t moe_watch_backward(moe::Handle handle, Watcher watcher, int64_t context) {
  MOE_TRY {
    auto node = moe::borrow(handle).grad_fn();
    if (node && !is_watched(*node)) {
      node->add_pre_hook(std::make_unique<BackwardBegins>(watcher, context));
      node->add_post_hook(std::make_unique<BackwardEnds>(watcher, context));
    }
  }
  MOE_CATCH
}

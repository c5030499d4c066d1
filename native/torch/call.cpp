// One export opens every operator of any libtorch: arguments are boxed by the operator's schema, and trailing arguments that
// the caller leaves out take the schema's defaults.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include "torch/torch_abi.h"

namespace {

enum class Tag : int32_t { None, Tensor, Int, Double, Bool, IntList, TensorList, String };

// An argument or a result. `length` counts the elements of a list or the bytes of a string.
struct Value {
  Tag tag;
  int32_t length;
  union {
    int64_t integer;
    double real;
    moe::Handle tensor;
    const void* list;
  };
};
static_assert(sizeof(Value) == 16, "the managed side lays out 16 bytes");

// An operator with what the boxed call needs to know of its arguments, worked out once.
struct Operator {
  c10::OperatorHandle handle;
  const c10::FunctionSchema& schema;
};

bool accepts_optional_tensors(const c10::Type& list) {
  return list.cast<c10::ListType>()->getElementType()->kind() == c10::TypeKind::OptionalType;
}

c10::IValue tensor_list(const Value& value, const c10::Type& type) {
  auto handles = static_cast<const moe::Handle*>(value.list);
  if (accepts_optional_tensors(type)) {
    c10::impl::GenericList tensors(c10::OptionalType::ofTensor());
    for (int32_t i = 0; i < value.length; ++i) {
      tensors.push_back(handles[i] == nullptr ? c10::IValue() : c10::IValue(moe::borrow(handles[i])));
    }
    return tensors;
  }
  c10::List<at::Tensor> tensors;
  tensors.reserve(value.length);
  for (int32_t i = 0; i < value.length; ++i) {
    tensors.push_back(moe::borrow(handles[i]));
  }
  return tensors;
}

c10::IValue boxed(const Value& value, const c10::Argument& argument) {
  c10::TypePtr type = argument.type();
  if (type->kind() == c10::TypeKind::OptionalType) {
    type = type->castRaw<c10::OptionalType>()->getElementType();
  }
  switch (value.tag) {
    case Tag::None:
      return c10::IValue();
    case Tag::Tensor:
      return moe::borrow(value.tensor);
    case Tag::Int:
      return type->kind() == c10::TypeKind::FloatType ? c10::IValue(static_cast<double>(value.integer)) : c10::IValue(value.integer);
    case Tag::Double:
      return value.real;
    case Tag::Bool:
      return value.integer != 0;
    case Tag::IntList: {
      auto items = static_cast<const int64_t*>(value.list);
      return c10::IValue(std::vector<int64_t>(items, items + value.length));
    }
    case Tag::TensorList:
      return tensor_list(value, *type);
    case Tag::String:
      return std::string(static_cast<const char*>(value.list), value.length);
  }
  TORCH_CHECK(false, "unknown argument tag ", static_cast<int32_t>(value.tag), " for ", argument.name());
}

// Writes one tensor, or every tensor of a list, and returns how many places of `results` that took.
int32_t unboxed(const c10::IValue& value, Value* results, int32_t capacity) {
  auto put = [&](int32_t at, Value result) {
    TORCH_CHECK(at < capacity, "the operator returned more than ", capacity, " values");
    results[at] = result;
  };
  if (value.isTensor()) {
    put(0, Value{Tag::Tensor, 0, {.tensor = moe::release(value.toTensor())}});
    return 1;
  }
  if (value.isTensorList()) {
    auto tensors = value.toTensorVector();
    TORCH_CHECK(static_cast<int64_t>(tensors.size()) <= capacity, "the operator returned ", tensors.size(), " tensors, more than ", capacity);
    int32_t count = 0;
    for (auto& tensor : tensors) {
      put(count++, Value{Tag::Tensor, 0, {.tensor = moe::release(std::move(tensor))}});
    }
    return count;
  }
  Value result{Tag::None, 0, {.integer = 0}};
  if (value.isInt()) {
    result = Value{Tag::Int, 0, {.integer = value.toInt()}};
  } else if (value.isDouble()) {
    result = Value{Tag::Double, 0, {.real = value.toDouble()}};
  } else if (value.isBool()) {
    result = Value{Tag::Bool, 0, {.integer = value.toBool()}};
  } else {
    TORCH_CHECK(value.isNone(), "results of type ", value.tagKind(), " are not carried across");
  }
  put(0, result);
  return 1;
}

}  // namespace

// The handle stays valid for the life of the process.
MOE_EXPORT int32_t moe_find_operator(const char* name, const char* overload, void** found) {
  MOE_TRY {
    auto handle = c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
    *found = new Operator{handle, handle.schema()};
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_call(const void* op, const Value* arguments, int32_t count, Value* results, int32_t capacity, int32_t* returned) {
  MOE_TRY {
    auto& target = *static_cast<const Operator*>(op);
    const auto& formal = target.schema.arguments();
    TORCH_CHECK(count <= static_cast<int32_t>(formal.size()), target.schema.name(), " takes ", formal.size(), " arguments, got ", count);
    torch::jit::Stack stack;
    stack.reserve(formal.size());
    for (int32_t i = 0; i < count; ++i) {
      stack.push_back(boxed(arguments[i], formal[i]));
    }
    for (size_t i = count; i < formal.size(); ++i) {
      TORCH_CHECK(formal[i].default_value().has_value(), target.schema.name(), " needs its argument '", formal[i].name(), "'");
      stack.push_back(*formal[i].default_value());
    }
    target.handle.callBoxed(stack);
    int32_t places = 0;
    for (const auto& value : stack) {
      places += unboxed(value, results + places, capacity - places);
    }
    *returned = places;
  }
  MOE_CATCH
}

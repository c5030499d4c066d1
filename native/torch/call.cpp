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

// How many values it is for the caller: each tensor of a list is one.
int64_t places_of(const c10::IValue& value) {
  TORCH_CHECK(value.isTensor() || value.isTensorList() || value.isInt() || value.isDouble() || value.isBool() || value.isNone(), "results of type ", value.tagKind(),
              " are not carried across");
  return value.isTensorList() ? static_cast<int64_t>(value.toListRef().size()) : 1;
}

Value of_tensor(at::Tensor tensor) { return {Tag::Tensor, 0, {.tensor = moe::release(std::move(tensor))}}; }

// Writes its values, for which there is room, and returns the place behind them. Throws nothing: what was given away would be lost.
Value* unbox(const c10::IValue& value, Value* results) noexcept {
  if (value.isTensorList()) {
    for (const auto& tensor : value.toListRef()) {
      *results++ = of_tensor(tensor.toTensor());
    }
  } else if (value.isTensor()) {
    *results++ = of_tensor(value.toTensor());
  } else if (value.isInt()) {
    *results++ = {Tag::Int, 0, {.integer = value.toInt()}};
  } else if (value.isDouble()) {
    *results++ = {Tag::Double, 0, {.real = value.toDouble()}};
  } else if (value.isBool()) {
    *results++ = {Tag::Bool, 0, {.integer = value.toBool()}};
  } else {
    *results++ = {Tag::None, 0, {.integer = 0}};
  }
  return results;
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
    int64_t places = 0;
    for (const auto& value : stack) {
      places += places_of(value);
    }
    TORCH_CHECK(places <= capacity, target.schema.name(), " returned ", places, " values, more than ", capacity);
    for (const auto& value : stack) {
      results = unbox(value, results);
    }
    *returned = static_cast<int32_t>(places);
  }
  MOE_CATCH
}

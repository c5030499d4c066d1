// What every export of the native libraries has in common: it returns a status, writes results through out-pointers,
// and lets no exception out. On a status other than 0, moe_last_error() has the message of the thread's last failure.
#pragma once

#include <cstdint>
#include <exception>
#include <string>

#define MOE_EXPORT extern "C" __attribute__((visibility("default")))

// Raised with every change of an export's signature or meaning; the managed side refuses a library with another number.
constexpr int32_t kMoeAbi = 12;

namespace moe {

// Keeps the message for moe_last_error() and returns the status of a failure.
int32_t fail(const std::string& message) noexcept;

// The same of what a catch handler has, which may be there for want of memory: then none is left for a string either.
inline int32_t fail(const char* message) noexcept {
  try {
    return fail(std::string(message));
  } catch (...) {
    return 1;
  }
}

}  // namespace moe

// The body of an export: MOE_TRY { ... } MOE_CATCH. c10::Error's what() carries a native backtrace that helps nobody who
// called from managed code, hence what_without_backtrace() where that type is known.
#define MOE_TRY try
#ifdef MOE_WITH_C10
#define MOE_CATCH                                                            \
  catch (const c10::Error& e) { return moe::fail(e.what_without_backtrace()); } \
  catch (const std::exception& e) { return moe::fail(e.what()); }            \
  catch (...) { return moe::fail("an unknown native exception"); }           \
  return 0;
#else
#define MOE_CATCH                                                            \
  catch (const std::exception& e) { return moe::fail(e.what()); }            \
  catch (...) { return moe::fail("an unknown native exception"); }           \
  return 0;
#endif

// The TCP store of libtorch's c10d, in which ranks meet. Only what 1.13 and 2.x have in common is used.
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "torch/torch_abi.h"

using Store = c10::intrusive_ptr<c10d::Store>;

// *port: 0 to let the system choose; the chosen one afterwards.
MOE_EXPORT int32_t moe_store_serve(int32_t* port, void** store) {
  MOE_TRY {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(*port);
    options.isServer = true;
    options.waitWorkers = false;
    auto server = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
    *port = server->getPort();
    *store = new Store(server);
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_store_connect(const char* host, int32_t port, int64_t timeout_ms, void** store) {
  MOE_TRY {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(port);
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *store = new Store(c10::make_intrusive<c10d::TCPStore>(host, options));
  }
  MOE_CATCH
}

// Returns when `size` ranks have called it with the same prefix, or throws after the store's time-out.
MOE_EXPORT int32_t moe_store_meet(void* store, const char* prefix, int32_t size) {
  MOE_TRY {
    c10d::PrefixStore meeting(prefix, *static_cast<Store*>(store));
    if (meeting.add("arrived", 1) == size) {
      meeting.set("complete", std::vector<uint8_t>{1});
    }
    meeting.wait({"complete"}, (*static_cast<Store*>(store))->getTimeout());
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_store_set(void* store, const char* key, const uint8_t* value, int64_t bytes) {
  MOE_TRY { (*static_cast<Store*>(store))->set(key, std::vector<uint8_t>(value, value + bytes)); }
  MOE_CATCH
}

// Does not wait for the key.
MOE_EXPORT int32_t moe_store_has(void* store, const char* key, int32_t* found) {
  MOE_TRY { *found = (*static_cast<Store*>(store))->check({key}) ? 1 : 0; }
  MOE_CATCH
}

// Of a key that is there. *bytes: room in `value`; the value's length afterwards. What is longer is cut.
MOE_EXPORT int32_t moe_store_get(void* store, const char* key, uint8_t* value, int64_t* bytes) {
  MOE_TRY {
    auto found = (*static_cast<Store*>(store))->get(key);
    *bytes = std::min(*bytes, static_cast<int64_t>(found.size()));
    std::memcpy(value, found.data(), static_cast<size_t>(*bytes));
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_store_free(void* store) {
  MOE_TRY { delete static_cast<Store*>(store); }
  MOE_CATCH
}

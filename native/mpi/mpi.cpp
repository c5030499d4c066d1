// MPI for the managed side: communicators, and transfers that never block inside MPI.
//
// A blocking MPI call does not return when a peer is gone, so everything here is started without blocking and then tested
// until it is done or its time is up. Exchanges are made of point-to-point messages: MPI counts are int, and a message may be
// cut in pieces, but the displacements of MPI_Ialltoallv may not. On 4 ranks of one machine this is as fast as MPI_Ialltoallv
// (1.7 ms against 1.9 ms for 4 MB a rank, equal below 1 MB).
#define OMPI_SKIP_MPICXX  // the C++ bindings that Open MPI still has
#include <mpi.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "abi.h"

namespace {

thread_local std::string last_error;

using Clock = std::chrono::steady_clock;

// A waiting rank yields its core so that ranks which share it can compute. Past this it sleeps between tests: what it waits for
// is then a slow peer, and 50 us don't count.
constexpr std::chrono::milliseconds kYieldingFor{5};
constexpr timespec kNap{0, 50'000};

struct Group {
  MPI_Comm communicator;
  int32_t rank;
  int32_t size;
};

// Freed also where what is made of it fails.
struct RankSet {
  MPI_Group group = MPI_GROUP_NULL;
  ~RankSet() {
    if (group != MPI_GROUP_NULL) {
      MPI_Group_free(&group);
    }
  }
};

struct Message {
  int32_t peer;      // -1 for a part of a collective of MPI's own
  int64_t expected;  // bytes to receive, -1 for what is sent
};

struct Transfer {
  std::vector<MPI_Request> requests;
  std::vector<Message> messages;
  std::vector<int> finished;
  std::vector<MPI_Status> statuses;
  size_t open = 0;

  MPI_Request* add(int32_t peer, int64_t expected) {
    messages.push_back({peer, expected});
    requests.push_back(MPI_REQUEST_NULL);
    ++open;
    return &requests.back();
  }
};

std::string error_text(int code) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  return std::string(text, length);
}

void check(int code, const char* call) {
  if (code != MPI_SUCCESS) {
    throw std::runtime_error(std::string(call) + ": " + error_text(code));
  }
}

// MPI hands errors back instead of ending the process, on every communicator that we make.
Group* adopt(MPI_Comm communicator) {
  if (int code = MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN); code != MPI_SUCCESS) {
    MPI_Comm_free(&communicator);
    check(code, "MPI_Comm_set_errhandler");
  }

  auto group = new Group{communicator, 0, 0};
  MPI_Comm_rank(communicator, &group->rank);
  MPI_Comm_size(communicator, &group->size);
  return group;
}

// Calls start(offset, count) for consecutive pieces of at most `limit` bytes. Messages of one pair, tag and communicator don't
// overtake each other, so pieces need no numbers.
template <typename Start>
void in_pieces(int64_t bytes, int64_t limit, Start start) {
  for (int64_t offset = 0; offset < bytes; offset += limit) {
    start(offset, static_cast<int>(std::min(limit, bytes - offset)));
  }
}

void check_message(const Message& message, const MPI_Status& status, bool failed) {
  if (failed && status.MPI_ERROR != MPI_SUCCESS && status.MPI_ERROR != MPI_ERR_PENDING) {
    auto peer = message.peer < 0 ? std::string() : " with rank " + std::to_string(message.peer);
    auto wanted = message.expected < 0 ? std::string() : ", " + std::to_string(message.expected) + " bytes expected";
    throw std::runtime_error("message" + peer + wanted + ": " + error_text(status.MPI_ERROR));
  }
  if (message.expected >= 0) {
    int count = 0;
    MPI_Get_count(&status, MPI_BYTE, &count);
    if (count != message.expected) {
      throw std::runtime_error("rank " + std::to_string(message.peer) + " sent " + std::to_string(count) + " bytes where " +
                               std::to_string(message.expected) + " were expected");
    }
  }
}

bool test(Transfer& transfer) {
  if (transfer.open == 0) {
    return true;
  }
  transfer.finished.resize(transfer.requests.size());
  transfer.statuses.resize(transfer.requests.size());
  int count = 0;
  int code = MPI_Testsome(static_cast<int>(transfer.requests.size()), transfer.requests.data(), &count, transfer.finished.data(),
                          transfer.statuses.data());
  if (code != MPI_SUCCESS && code != MPI_ERR_IN_STATUS) {
    check(code, "MPI_Testsome");
  }
  for (int i = 0; i < count; ++i) {
    check_message(transfer.messages[transfer.finished[i]], transfer.statuses[i], code == MPI_ERR_IN_STATUS);
    --transfer.open;
  }
  return transfer.open == 0;
}

bool wait(Transfer& transfer, std::chrono::milliseconds timeout) {
  auto begin = Clock::now();
  while (!test(transfer)) {
    auto waited = Clock::now() - begin;
    if (waited >= timeout) {
      return false;
    }
    if (waited < kYieldingFor) {
      sched_yield();
    } else {
      nanosleep(&kNap, nullptr);
    }
  }
  return true;
}

// The part that a rank keeps is moved at once; the two may be the same memory.
void copy_own(char* output, const char* input, int64_t received, int64_t sent) {
  if (received != sent) {
    throw std::invalid_argument("a rank sends " + std::to_string(sent) + " bytes to itself and expects " + std::to_string(received));
  }
  if (sent > 0 && output != input) {
    std::memmove(output, input, sent);
  }
}

}  // namespace

int32_t moe::fail(const std::string& message) noexcept {
  try {
    last_error = message;
  } catch (...) {  // no memory even for the message: the status alone must do
  }
  return 1;
}

MOE_EXPORT const char* moe_mpi_last_error() { return last_error.c_str(); }

MOE_EXPORT int32_t moe_mpi_abi() { return kMoeAbi; }

// Once a process. *tag_limit: the largest tag that a transfer may carry.
MOE_EXPORT int32_t moe_mpi_init(void** world, int32_t* rank, int32_t* size, int32_t* tag_limit) {
  MOE_TRY {
    // Ranks may outnumber cores: inside MPI's own blocking calls (start and end) they must yield as well.
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    // The managed runtime has its own handlers for SIGSEGV and its like, and turns some into exceptions.
    setenv("OMPI_MCA_opal_signal", "", 0);
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
    if (provided < MPI_THREAD_SERIALIZED) {
      throw std::runtime_error("this MPI allows calls from the main thread only; MPI_THREAD_SERIALIZED is needed");
    }
    MPI_Comm own = MPI_COMM_NULL;
    check(MPI_Comm_dup(MPI_COMM_WORLD, &own), "MPI_Comm_dup");
    auto group = adopt(own);
    int* limit = nullptr;
    int found = 0;
    MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &limit, &found);
    *tag_limit = found ? *limit : 32767;  // the least that the standard promises
    *rank = group->rank;
    *size = group->size;
    *world = group;
  }
  MOE_CATCH
}

// Called by the `count` ranks of `parent` that are in `ranks`, and by no other; it blocks until all of them came.
MOE_EXPORT int32_t moe_mpi_group_create(void* parent, const int32_t* ranks, int32_t count, void** created) {
  MOE_TRY {
    auto communicator = static_cast<Group*>(parent)->communicator;
    RankSet all, some;
    MPI_Comm result = MPI_COMM_NULL;
    check(MPI_Comm_group(communicator, &all.group), "MPI_Comm_group");
    check(MPI_Group_incl(all.group, count, ranks, &some.group), "MPI_Group_incl");
    check(MPI_Comm_create_group(communicator, some.group, 0, &result), "MPI_Comm_create_group");
    *created = adopt(result);
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_mpi_group_free(void* group) {
  MOE_TRY {
    auto freed = static_cast<Group*>(group);
    int code = MPI_Comm_free(&freed->communicator);
    delete freed;
    check(code, "MPI_Comm_free");
  }
  MOE_CATCH
}

// Sends input[send_offsets[r] ..][send_bytes[r]] to every rank r and receives output[receive_offsets[r] ..][receive_bytes[r]]
// from it; offsets and sizes in bytes, one a rank of the group. A size of 0 is no message. All buffers must stay until the end.
// message_limit: the most bytes in one MPI message, at most INT_MAX; the same on all ranks.
MOE_EXPORT int32_t moe_mpi_exchange(void* group, int32_t tag, int64_t message_limit, void* output, const int64_t* receive_offsets,
                                    const int64_t* receive_bytes, const void* input, const int64_t* send_offsets,
                                    const int64_t* send_bytes, void** started) {
  MOE_TRY {
    auto& members = *static_cast<Group*>(group);
    auto target = static_cast<char*>(output);
    auto source = static_cast<const char*>(input);
    auto transfer = new Transfer;
    *started = transfer;  // given back even if a later message cannot start: the earlier ones are under way
    int32_t self = members.rank;
    copy_own(target + receive_offsets[self], source + send_offsets[self], receive_bytes[self], send_bytes[self]);
    // Every rank begins with its neighbour, so that no rank is everyone's first.
    for (int32_t step = 1; step < members.size; ++step) {
      int32_t peer = (self - step + members.size) % members.size;
      in_pieces(receive_bytes[peer], message_limit, [&](int64_t offset, int count) {
        check(MPI_Irecv(target + receive_offsets[peer] + offset, count, MPI_BYTE, peer, tag, members.communicator, transfer->add(peer, count)),
              "MPI_Irecv");
      });
    }
    for (int32_t step = 1; step < members.size; ++step) {
      int32_t peer = (self + step) % members.size;
      in_pieces(send_bytes[peer], message_limit, [&](int64_t offset, int count) {
        check(MPI_Isend(source + send_offsets[peer] + offset, count, MPI_BYTE, peer, tag, members.communicator, transfer->add(peer, -1)),
              "MPI_Isend");
      });
    }
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_mpi_broadcast(void* group, void* values, int64_t bytes, int32_t root, int64_t message_limit, void** started) {
  MOE_TRY {
    auto communicator = static_cast<Group*>(group)->communicator;
    auto transfer = new Transfer;
    *started = transfer;
    in_pieces(bytes, message_limit, [&](int64_t offset, int count) {
      check(MPI_Ibcast(static_cast<char*>(values) + offset, count, MPI_BYTE, root, communicator, transfer->add(-1, -1)), "MPI_Ibcast");
    });
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_mpi_barrier(void* group, void** started) {
  MOE_TRY {
    auto transfer = new Transfer;
    *started = transfer;
    check(MPI_Ibarrier(static_cast<Group*>(group)->communicator, transfer->add(-1, -1)), "MPI_Ibarrier");
  }
  MOE_CATCH
}

MOE_EXPORT int32_t moe_mpi_test(void* transfer, int32_t* done) {
  MOE_TRY {
    *done = test(*static_cast<Transfer*>(transfer)) ? 1 : 0;
  }
  MOE_CATCH
}

// *done is 0 where the time was up first.
MOE_EXPORT int32_t moe_mpi_wait(void* transfer, int64_t timeout_ms, int32_t* done) {
  MOE_TRY {
    *done = wait(*static_cast<Transfer*>(transfer), std::chrono::milliseconds(timeout_ms)) ? 1 : 0;
  }
  MOE_CATCH
}

// The ranks that a transfer still waits for, each once and at most `capacity` of them.
MOE_EXPORT int32_t moe_mpi_open_peers(void* transfer, int32_t* peers, int32_t capacity, int32_t* count) {
  MOE_TRY {
    auto& asked = *static_cast<Transfer*>(transfer);
    *count = 0;
    for (size_t i = 0; i < asked.requests.size() && *count < capacity; ++i) {
      int32_t peer = asked.messages[i].peer;
      if (asked.requests[i] != MPI_REQUEST_NULL && peer >= 0 && std::find(peers, peers + *count, peer) == peers + *count) {
        peers[(*count)++] = peer;
      }
    }
  }
  MOE_CATCH
}

// For a transfer that is done. One that is not stays, as MPI may still write through its requests.
MOE_EXPORT int32_t moe_mpi_transfer_free(void* transfer) {
  MOE_TRY {
    delete static_cast<Transfer*>(transfer);
  }
  MOE_CATCH
}

// Blocks until every rank of the job calls it, so only after a barrier that ended in time.
MOE_EXPORT int32_t moe_mpi_finalize() {
  MOE_TRY {
    check(MPI_Finalize(), "MPI_Finalize");
  }
  MOE_CATCH
}

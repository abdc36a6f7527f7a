// Exchanges between processes of one machine, through memory that all of them have mapped.
//
// A process writes to a slot of its own, says so, and reads the slots of the others once they have
// said the same. Slots come in two sets, used in turn: who writes to the first set again has met all
// others over the second one, so nobody still reads what it overwrites, and an exchange is a single
// meeting. Waiting is as in threads.h, but that who sleeps looks after the others from time to time:
// one may have ended.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "communicator.h"

namespace sartor {

class SharedMemory final : public Communicator {
  public:
    // Of the memory for so many processes.
    static int64_t bytes(int size);

    // `memory` is zero before the first process begins. `processes` has a descriptor for each, as of
    // pidfd_open, which can be read from when it has ended, and which is closed in the end; negative
    // ones are not looked at. A process that is silent for `seconds` is given up. `between` is called
    // from time to time while this one waits, and may throw. Throws std::invalid_argument, or
    // std::runtime_error where the system has no such memory; the descriptors then stay open.
    SharedMemory(void* memory, int64_t bytes, int rank, std::vector<int> processes, double seconds,
                 std::function<void()> between);

    ~SharedMemory() override;

    // `all` becomes [process][count]. Throws std::runtime_error.
    void gather_bytes(const void* own, int64_t count, void* all);
    void add_up_floats(float* values, int64_t count) { add_up_now(values, count); }
    // Takes part in nothing more: who waits for this process learns of it.
    void leave();

  private:
    // What others watch of a process, on a line of its own.
    struct alignas(64) Member {
        // Exchanges that it has written for.
        std::atomic<uint32_t> arrived;
        // How many sleep until that changes.
        std::atomic<uint32_t> sleeping;
        std::atomic<uint32_t> left;
    };

    void add_up_now(float* values, int64_t count) override;
    void gather_now(const double* own, int64_t count, double* all) override;
    uint8_t* slot(int process) const;
    void meet();
    void wait_for(int process);
    void sleep(Member& member, uint32_t seen);
    bool has_ended(int process) const;

    Member* const members_;
    uint8_t* const slots_;
    const std::vector<int> processes_;
    const double seconds_;
    const std::function<void()> between_;
    uint32_t round_ = 0;
};

}  // namespace sartor

#include "shared_memory.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>

#include "waiting.h"

#if defined(__linux__)
#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>
#endif

namespace sartor {

namespace {

// Of a slot: what does not fit is exchanged piece by piece. The gradients of a million parameters.
constexpr int64_t SLOT = int64_t(4) << 20;
constexpr int SETS = 2;
constexpr long SLEEP_NANOSECONDS = 20'000'000;

}  // namespace

int64_t SharedMemory::bytes(int size) {
    return int64_t(size) * int64_t(sizeof(Member)) + int64_t(size) * SETS * SLOT;
}

SharedMemory::SharedMemory(void* memory, int64_t length, int rank, std::vector<int> processes,
                           double seconds, std::function<void()> between)
    : Communicator(rank, int(processes.size())),
      members_(static_cast<Member*>(memory)),
      slots_(static_cast<uint8_t*>(memory) + int64_t(processes.size()) * int64_t(sizeof(Member))),
      processes_(std::move(processes)),
      seconds_(seconds),
      between_(std::move(between)) {
    static_assert(std::atomic<uint32_t>::is_always_lock_free, "shared between processes");
#if !defined(__linux__)
    throw std::runtime_error("memory is shared between processes on Linux only");
#endif
    if (size() < 1 || rank < 0 || rank >= size())
        throw std::invalid_argument("rank " + std::to_string(rank) + " is not one of " +
                                    std::to_string(size()) + " processes");
    if (length < bytes(size()))
        throw std::invalid_argument("the memory has " + std::to_string(length) + " bytes of " +
                                    std::to_string(bytes(size())));
    if (reinterpret_cast<uintptr_t>(memory) % alignof(Member) != 0)
        throw std::invalid_argument("the memory must begin at a multiple of " +
                                    std::to_string(alignof(Member)));
    if (!(seconds > 0)) throw std::invalid_argument("seconds must be above 0");
}

SharedMemory::~SharedMemory() {
#if defined(__linux__)
    for (int descriptor : processes_)
        if (descriptor >= 0) close(descriptor);
#endif
}

uint8_t* SharedMemory::slot(int process) const {
    return slots_ + (int64_t(round_ % SETS) * size() + process) * SLOT;
}

void SharedMemory::gather_bytes(const void* own, int64_t count, void* all) {
    const uint8_t* from = static_cast<const uint8_t*>(own);
    uint8_t* to = static_cast<uint8_t*>(all);
    for (int64_t begin = 0; begin < count; begin += SLOT) {
        int64_t here = std::min(SLOT, count - begin);
        ++round_;
        std::memcpy(slot(rank()), from + begin, here);
        meet();
        for (int process = 0; process < size(); ++process)
            std::memcpy(to + process * count + begin, slot(process), here);
    }
}

void SharedMemory::gather_now(const double* own, int64_t count, double* all) {
    gather_bytes(own, count * int64_t(sizeof(double)), all);
}

void SharedMemory::add_up_now(float* values, int64_t count) {
    constexpr int64_t most = SLOT / int64_t(sizeof(float));
    for (int64_t begin = 0; begin < count; begin += most) {
        int64_t here = std::min(most, count - begin);
        float* sums = values + begin;
        ++round_;
        std::memcpy(slot(rank()), sums, here * sizeof(float));
        meet();
        // In the order of processes, so that the bits are those of any other way to add in it.
        std::memcpy(sums, slot(0), here * sizeof(float));
        for (int process = 1; process < size(); ++process) {
            const float* more = reinterpret_cast<const float*>(slot(process));
            for (int64_t k = 0; k < here; ++k) sums[k] += more[k];
        }
    }
}

void SharedMemory::leave() {
    Member& own = members_[rank()];
    own.left.store(1);
#if defined(__linux__)
    syscall(SYS_futex, &own.arrived, FUTEX_WAKE, size(), nullptr, nullptr, 0);
#endif
}

// Returns when all have written for the present round.
void SharedMemory::meet() {
    Member& own = members_[rank()];
    own.arrived.store(round_);
#if defined(__linux__)
    // Either this process sees who sleeps, or that one sees the round before it does.
    if (own.sleeping.load() > 0)
        syscall(SYS_futex, &own.arrived, FUTEX_WAKE, size(), nullptr, nullptr, 0);
#endif
    for (int process = 0; process < size(); ++process)
        if (process != rank()) wait_for(process);
}

void SharedMemory::wait_for(int process) {
    Member& member = members_[process];
    auto is_there = [&] { return int32_t(member.arrived.load() - round_) >= 0; };
    if (spin_until(is_there)) return;
    auto began = std::chrono::steady_clock::now();
    for (;;) {
        uint32_t seen = member.arrived.load();
        if (int32_t(seen - round_) >= 0) return;
        sleep(member, seen);
        if (is_there()) return;
        // What it wrote last counts, though it may have ended since.
        bool gone = member.left.load() != 0 || has_ended(process);
        if (is_there()) return;
        if (gone) throw std::runtime_error("process " + std::to_string(process) + " has ended");
        std::chrono::duration<double> waited = std::chrono::steady_clock::now() - began;
        if (waited.count() > seconds_)
            throw std::runtime_error("process " + std::to_string(process) + " was silent for " +
                                     std::to_string(int64_t(seconds_)) + " seconds");
        between_();
    }
}

// For a moment at most, unless the round of the member changes.
void SharedMemory::sleep(Member& member, uint32_t seen) {
#if defined(__linux__)
    timespec moment{0, SLEEP_NANOSECONDS};
    member.sleeping.fetch_add(1);
    // Across processes, hence not FUTEX_WAIT_PRIVATE. It returns at once if the round has changed.
    syscall(SYS_futex, &member.arrived, FUTEX_WAIT, seen, &moment, nullptr, 0);
    member.sleeping.fetch_sub(1);
#else
    (void)member, (void)seen;
#endif
}

bool SharedMemory::has_ended(int process) const {
#if defined(__linux__)
    pollfd watched{processes_[process], POLLIN, 0};
    return poll(&watched, 1, 0) > 0;
#else
    return process < 0;
#endif
}

}  // namespace sartor

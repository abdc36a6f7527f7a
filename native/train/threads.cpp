// A team of threads: how it starts, shares out a phase, and waits.
#include "threads.h"

#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include "waiting.h"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

namespace sartor {

long process() {
#if defined(__unix__) || defined(__APPLE__)
    return long(getpid());
#else
    return 1;
#endif
}

Threads::Threads(int count)
    : count_(count < 1 ? 1 : count), begun_(std::make_unique<Begun[]>(count_)) {}

Threads::~Threads() {
    // After a fork, the workers belong to the other process.
    if (process_ != process()) {
        for (std::thread& worker : workers_) worker.detach();
        return;
    }
    ends_ = true;
    phase_.fetch_add(1);
    wake();
    for (std::thread& worker : workers_) worker.join();
}

void Threads::start() {
    if (process_ == process()) return;
    if (process_ != 0) {
        // A copy of a process has none of its threads, and its locks as they happened to be.
        for (std::thread& worker : workers_) worker.detach();
        workers_.clear();
        new (&mutex_) std::mutex();
        new (&woken_) std::condition_variable();
        arrived_ = 0;
        sleeping_ = 0;
        // Of a phase in the middle of which it was copied, no part is left to do.
        for (int part = 0; part < count_; ++part) begun_[part].phase = phase_.load();
    }
    process_ = process();
    try {
        for (int thread = 1; thread < count_; ++thread)
            workers_.emplace_back([this, thread, seen = phase_.load()] { serve(thread, seen); });
    } catch (const std::system_error&) {
        // There may be no more threads in this process: the parts are done by those that there are.
    }
}

void Threads::serve(int thread, uint32_t seen) {
    for (;;) {
        wait_until([&] { return phase_.load() != seen; });
        // The phase first: the last one, which has no work, begins after `ends_` is set.
        seen = phase_.load();
        if (ends_.load()) return;
        take_parts(seen, thread);
    }
}

void Threads::phase(const Work& work, bool shared) {
    if (count_ == 1) return work.call(work.body, 0);
    start();
    if (!shared && int(workers_.size()) + 1 < count_)
        throw std::runtime_error("this process may not start " + std::to_string(count_) +
                                 " threads");
    work_ = work;
    shared_.store(shared);
    done_.store(0, std::memory_order_relaxed);
    uint32_t now = phase_.load(std::memory_order_relaxed) + 1;
    phase_.store(now);
    wake();
    take_parts(now, 0);
    wait_until([&] { return done_.load() == count_; });
}

void Threads::take_parts(uint32_t phase, int thread) {
    take(phase, thread);
    // Where this is read of a later phase, there is nothing left to take.
    if (!shared_.load()) return;
    for (int part = 0; part < count_; ++part)
        if (part != thread) take(phase, part);
}

void Threads::take(uint32_t phase, int part) {
    // Who comes late finds its part begun, in this phase or a later one, and touches nothing.
    uint32_t before = phase - 1;
    if (!begun_[part].phase.compare_exchange_strong(before, phase)) return;
    work_.call(work_.body, part);
    if (done_.fetch_add(1) + 1 == count_) wake();
}

void Threads::wait() {
    if (count_ == 1) return;
    uint32_t meeting = meetings_.load();
    if (arrived_.fetch_add(1) + 1 == count_) {
        arrived_.store(0);
        meetings_.fetch_add(1);
        wake();
    } else {
        wait_until([&] { return meetings_.load() != meeting; });
    }
}

template <typename Condition>
void Threads::wait_until(Condition condition) {
    if (spin_until(condition)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    sleeping_.fetch_add(1);
    while (!condition()) woken_.wait(lock);
    sleeping_.fetch_sub(1);
}

void Threads::wake() {
    // Either this thread sees who sleeps, or that one sees what has changed before it does.
    if (sleeping_.load() == 0) return;
    std::lock_guard<std::mutex> lock(mutex_);
    woken_.notify_all();
}

}  // namespace sartor

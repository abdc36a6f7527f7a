// The engine's own threads: a team that carries out one phase of work after the other.
//
// A phase has a part for each thread. A thread does its own, then any that nobody has begun: so
// where other programs hold up a thread, the rest do its work, and a part's result does not depend
// on who computed it. Waiting is spinning for a moment, for phases take microseconds; then giving
// way; then sleeping.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine.h"

namespace sartor {

// The number of this process: another one in a copy of it, which has none of its threads.
long process();

class Threads : public Team {
  public:
    explicit Threads(int count);
    ~Threads() override;
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

    int threads() const override { return count_; }

    // Calls body(part) for each part from 0 up to the number of threads; returns when all are done.
    // Bodies throw nothing.
    template <typename Body>
    void each(const Body& body) {
        phase({&body, call<Body>}, true);
    }
    // The same, but each thread does its own part, so that all may `wait` for each other in it.
    template <typename Body>
    void together(const Body& body) {
        phase({&body, call<Body>}, false);
    }
    void wait() override;

  private:
    struct Work {
        const void* body = nullptr;
        void (*call)(const void* body, int part) = nullptr;
    };
    // Which phase a part was last begun in; on a line of its own, as what another thread watches.
    struct alignas(64) Begun {
        std::atomic<uint32_t> phase{0};
    };

    template <typename Body>
    static void call(const void* body, int part) {
        (*static_cast<const Body*>(body))(part);
    }

    void start();
    void serve(int thread, uint32_t seen);
    void phase(const Work& work, bool shared);
    void take_parts(uint32_t phase, int thread);
    void take(uint32_t phase, int part);
    template <typename Condition>
    void wait_until(Condition condition);
    void wake();

    const int count_;
    Work work_;
    std::atomic<bool> ends_{false};
    // Whether a thread may take the part of another.
    std::atomic<bool> shared_{true};
    alignas(64) std::atomic<uint32_t> phase_{0};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<uint32_t> meetings_{0};
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<int> sleeping_{0};
    std::unique_ptr<Begun[]> begun_;
    std::mutex mutex_;
    std::condition_variable woken_;
    std::vector<std::thread> workers_;
    long process_ = 0;
};

}  // namespace sartor

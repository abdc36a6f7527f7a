// How who waits for another thread or process begins to wait: spinning, then giving way.
//
// Where other programs compete for the core, giving way is the wrong thing: the system lets them
// have it for milliseconds, and does not wake who gave way when what it waits for is there. Who
// sleeps is woken at once. So a thread that found its core taken leaves giving way out for a while.
#pragma once

#include <chrono>

#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#endif

namespace sartor {

// Some 10 microseconds: longer than threads that have a core each wait for another's part.
constexpr int SPINS = 600;
// Then others may have the core, but this thread stays where its caches are.
constexpr int YIELDS = 200;
// Giving way that takes longer gave the core to another program.
constexpr std::chrono::microseconds LONG_YIELD{100};
// Waits without giving way after such a one: some hundredths of a second.
constexpr int WAITS_ON_A_TAKEN_CORE = 1000;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

inline void give_way() {
#if defined(__unix__) || defined(__APPLE__)
    sched_yield();
#endif
}

// Whether giving way gave the core to another program.
inline bool gives_core_away() {
    auto began = std::chrono::steady_clock::now();
    give_way();
    return std::chrono::steady_clock::now() - began > LONG_YIELD;
}

// Whether a condition has come true soon; if not, it is time to sleep.
template <typename Condition>
bool spin_until(const Condition& condition) {
    static thread_local int without_yields = 0;
    for (int spin = 0; spin < SPINS; ++spin) {
        if (condition()) return true;
        pause();
    }
    if (without_yields > 0) return --without_yields, false;
    for (int yield = 0; yield < YIELDS; ++yield) {
        if (condition()) return true;
        if (gives_core_away()) {
            without_yields = WAITS_ON_A_TAKEN_CORE;
            return condition();
        }
    }
    return false;
}

}  // namespace sartor

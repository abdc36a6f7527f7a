// How who waits for another thread or process begins to wait: spinning, then giving way.
#pragma once

#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#endif

namespace sartor {

// Some 10 microseconds: longer than threads that have a core each wait for another's part.
constexpr int SPINS = 600;
// Then others may have the core, but this thread stays where its caches are.
constexpr int YIELDS = 200;

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

// Whether a condition has come true soon; if not, it is time to sleep.
template <typename Condition>
bool spin_until(const Condition& condition) {
    for (int spin = 0; spin < SPINS; ++spin) {
        if (condition()) return true;
        pause();
    }
    for (int yield = 0; yield < YIELDS; ++yield) {
        if (condition()) return true;
        give_way();
    }
    return false;
}

}  // namespace sartor
